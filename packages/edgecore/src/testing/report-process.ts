// Reports to twins over LevelDB without end, until it is killed: to two devices in one commit, in turns of the event loop of their
// own. Arguments: folder, name of a failpoint, how many passings of it to let go by. Prints the number of each acknowledged report.
import { SystemClock, failpointOf } from '@holdfast/runtime'
import { LevelStore } from '@holdfast/store'
import type { DeviceId } from '../twins/index.ts'
import { device, durable, openTwins, reported, stamped } from '../twins/testing/twin-harness.ts'

const [path, failpoint, count] = process.argv.slice(2)
const store = await LevelStore.open({ path: path! })
const annotations = { 'holdfast.dev/history': 'changes', 'holdfast.dev/report-interval': '0' }
{
  await using first = await openTwins(store, { clock: new SystemClock() })
  await first.receive(Object.fromEntries(['default/a', 'default/b'].map(id =>
    [id, stamped(device(id, { annotations, properties: [{ name: 'n', desired: { value: 'on' } }] }))])))
}
const { twins } = await openTwins(store, {
  clock: new SystemClock(), seed: 2, failpoint: failpointOf({ HOLDFAST_FAILPOINT: `${failpoint}:${count}` })
})

for (let n = 1; ; n++) {
  const writings = ['default/a', 'default/b'].map(id => twins.write(id as DeviceId, reported({ n }), 'mqtt'))
  await Promise.all(writings.map(durable))
  process.stdout.write(`${n}\n`)
}
