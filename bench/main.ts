// `npm run bench [-- rows…] [-- --rounds 3]`: measures, prints a table, keeps every run in bench/results/.
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { parseArgs } from 'node:util'
import { isFlawless } from '../test/harness/checker.ts'
import { MeasuredSystem } from '../test/harness/system.ts'
import { NotRun } from './bench-row.ts'
import {
  goalOf, keepRun, machineFacts, numberText, reached, spreadOf, versionFacts, type BenchConfiguration, type RowResult
} from './results.ts'
import { benchRows } from './rows.ts'

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    help: { type: 'boolean', default: false },
    'no-keep': { type: 'boolean', default: false }
  }
})
const ids = benchRows.map(row => row.id)
const unknown = positionals.filter(id => !ids.includes(id))
const rounds = Number(options.rounds)
if (options.help || unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  if (unknown.length > 0) console.error(`no such row: ${unknown.join(', ')}\n`)
  console.log('npm run bench [-- rows…] [-- --rounds 3] [-- --no-keep]\n\nRows:')
  for (const row of benchRows) console.log(`  ${row.id.padEnd(10)} ${row.question}`)
  process.exit(options.help ? 0 : 2)
}

const startedAt = new Date()
const facts = { ...versionFacts(), machine: machineFacts(tmpdir()), configuration: await configurationInUse() }
const { versions, machine, configuration } = facts
console.log(`Holdfast ${versions.holdfast} (${facts.commit}), Node ${versions.node}, ${machine.cores} × ${machine.processor}`)
console.log(`edgecore ${configuration.edgecoreFlags.join(' ')}`)
console.log(`cloudcore ${configuration.cloudcoreFlags.join(' ')}`)
console.log(configuration.settings)

if (machine.loadAverage > 0.5) {
  const load = machine.loadAverage.toFixed(1)
  console.log(`the load average is ${load}: others are at work here, and what follows shows that too`)
}
// Ctrl-C reaches the daemons too; they end, the row under way fails, and what it made is removed. A second one ends this.
process.once('SIGINT', () => { console.error('stopping') })

const results: RowResult[] = []
for (const row of benchRows.filter(each => positionals.length === 0 || positionals.includes(each.id))) {
  console.log(`\n${row.id}. ${row.question}`)
  const { id, question, how, columns } = row
  const rowStartMs = performance.now()
  try {
    const measured = await row.measure({ rounds, say: text => console.log(`   ${text}`) })
    const seconds = Math.round((performance.now() - rowStartMs) / 1000)
    const result: RowResult = { id, question, how, columns, rounds: measured, seconds }
    results.push(result)
    printRow(result)
  } catch (error) {
    if (!(error instanceof NotRun)) throw error
    results.push({ id, question, how, columns, rounds: [], seconds: 0, notRun: error.message })
    console.log(`   not run: ${error.message}`)
  }
}
const seconds = Math.round((Date.now() - startedAt.getTime()) / 1000)
if (!options['no-keep']) {
  const path = keepRun({ format: 1, startedAt: startedAt.toISOString(), seconds, ...facts, rows: results })
  console.log(`\nkept as ${path}, ${seconds} s`)
}
if (results.some(({ rounds: done }) => done.some(({ verdict }) => verdict !== undefined && !isFlawless(verdict)))) {
  console.error('records were lost, doubled, turned round or invented: see above')
  process.exitCode = 1
}

/** As the daemons run: the flags that their launchers set, the defaults of their settings. */
async function configurationInUse(): Promise<BenchConfiguration> {
  await using system = await MeasuredSystem.start()
  const flagsOf = (pid: number): string[] => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    .slice(1).filter(word => word.startsWith('--') && word !== '--set')
  return {
    edgecoreFlags: flagsOf(system.edge.pid!),
    cloudcoreFlags: flagsOf(system.cloud.pid!),
    settings: 'the defaults, but for free ports and data directories; mutual TLS 1.3 on the tunnel; every record is fsynced '
      + 'on both ends'
  }
}

function printRow(result: RowResult): void {
  console.log(`   ${result.seconds} s`)
  for (const [key, column] of Object.entries(result.columns)) {
    const spread = spreadOf(result.rounds, key)
    if (spread === undefined) continue
    const range = spread.rounds === 1 ? '' : `(${numberText(spread.low, '')} to ${numberText(spread.high, '')})`
    const goal = goalOf(column) === '' ? '' : `${goalOf(column)}: ${reached(column, spread.median)}`
    const value = numberText(spread.median, column.unit)
    console.log(`   ${column.title.padEnd(52)} ${value.padStart(14)}  ${range.padEnd(24)} ${goal}`)
  }
}
