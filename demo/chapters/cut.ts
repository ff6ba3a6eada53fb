import { formatCount } from '../../packages/cli/src/render.ts'
import type { Chapter } from '../chapter.ts'
import { settledSettings } from '../stage.ts'

export const cut: Chapter = {
  title: 'The link is cut, devices go on publishing',
  proves: 'Offline is normal: acknowledgements come as before, and what they promise waits on the node.',
  async run(stage) {
    // What is on its way at the cut waits as well, so the phase begins a moment earlier.
    stage.phase('during')
    await stage.goOn('a last moment before the cut', 300, 1)
    stage.cutLink()
    const before = stage.acknowledged
    await stage.goOn('devices publish while the link is cut', 6000, 1000)
    stage.step('the cluster changes what it wants for the node')
    await stage.objects.change()
    const { speedLimit, hasSecret } = await stage.objects.onNode()
    if (speedLimit !== '50' || !hasSecret) throw new Error('the node does not hold what it held before the cut')
    stage.display.say('in the cluster: speed-limit is now 30, door-code is deleted. The node serves 50 and the Secret, as it knows them.')
    stage.step('the cluster and an application on the node want different things of the thermostat')
    const { target, mode } = settledSettings
    await stage.devices.desireInCloud({ target })
    await stage.devices.desireOnNode({ mode })
    await stage.until('the thermostat does what the node can tell it', async () => {
      const { reported } = await stage.devices.onNode()
      return reported.mode === mode && reported.target !== target
    })
    stage.display.say(`the thermostat: in the cluster its target is now to be ${target} °C; ` +
      `on the node an application sets mode ${mode}, and it obeys.`)
    stage.findings.acknowledgedOffline = stage.acknowledged - before
    stage.display.say(`${formatCount(await stage.waiting())} records wait on the node.`)
  }
}
