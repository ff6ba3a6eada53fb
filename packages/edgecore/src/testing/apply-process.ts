// Applies batches to an ObjectTable over LevelDB without end, each a whole new set of ConfigMaps, until it is killed.
// Arguments: folder, name of a failpoint, how many passings of it to let go by. Prints the number of each applied batch.
import { failpointOf } from '@holdfast/runtime'
import { LevelStore } from '@holdfast/store'
import { apply, batchOf, openTable, sentObject } from '../objects/testing/object-harness.ts'

const [path, failpoint, count] = process.argv.slice(2)
const store = await LevelStore.open({ path: path! })
const { table } = await openTable(store, { failpoint: failpointOf({ HOLDFAST_FAILPOINT: `${failpoint}:${count}` }) })

for (let n = 1; ; n++) {
  const puts = Object.fromEntries(Array.from({ length: 5 }, (_, i) => {
    const key = `round-${n}/${i}`
    return [key, sentObject('pods', key, { spec: { hostname: `${n}` } })]
  }))
  const gone = Array.from({ length: 5 }, (_, i) => `round-${n - 1}/${i}`)
  await apply(table.down, batchOf('pods', puts, n === 1 ? [] : gone, `p${n}`))
  process.stdout.write(`${n} ${table.sequence}\n`)
}
