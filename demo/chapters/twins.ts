import type { Chapter } from '../chapter.ts'
import { difference } from '../devices.ts'
import { settledSettings } from '../stage.ts'

export const twins: Chapter = {
  title: 'Both sides had plans for the thermostat',
  proves: 'Desired values merge property by property: what the cluster wanted and what the node did while cut off both hold.',
  async run(stage) {
    await stage.until('cluster and node agree on the thermostat, and so does it', async () =>
      difference(await stage.devices.inCloud(), settledSettings) === '' && difference(await stage.devices.onNode(), settledSettings) === '')
    await stage.until('the Device says that it is in its desired state', async () => (await stage.devices.inCloud()).inDesiredState)
    const { target, mode } = settledSettings
    stage.display.say(`target ${target} °C came from the cluster, mode ${mode} from the node: ` +
      'desired and reported are the same in both places.')
  }
}
