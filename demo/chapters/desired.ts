import type { Chapter } from '../chapter.ts'
import { difference } from '../devices.ts'

export const desired: Chapter = {
  title: 'A thermostat is told what to be',
  proves: 'A desired value set in the cluster reaches the device, and what the device then reports is back in the cluster, in moments.',
  async run(stage) {
    const settings = { target: '22', mode: 'comfort' }
    stage.step('the cluster sets a desired value')
    await stage.devices.desireInCloud({ target: settings.target })
    const startedMs = performance.now()
    await stage.until('the cluster shows it as reported', async () => difference(await stage.devices.inCloud(), settings) === '')
    const tookMs = performance.now() - startedMs
    await stage.until('the Device says that it is in its desired state', async () => (await stage.devices.inCloud()).inDesiredState)
    stage.display.say('kubectl patch: target is to be 22 °C. The thermostat, a process of its own, did it, ' +
      `and the cluster shows it after ${tookMs.toFixed(0)} ms.`)
    const memory = await stage.until('this machine\'s metrics are in the cluster', () => stage.devices.machineMemory())
    stage.display.say(`this machine is a Device too: ${(memory / 2 ** 30).toFixed(1)} GiB of memory are free, says the cluster.`)
  }
}
