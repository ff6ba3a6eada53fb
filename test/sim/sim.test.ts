import { expect, test } from 'vitest'
import { faultClasses, planOf, planOfClass, stateFaultClasses, statePlanOf, twinPlanOf } from './plan.ts'
import type { Outcome } from './simulation.ts'
import { simulate } from './simulation.ts'

// `SEED=123 npm run sim` replays one seed with its trace, `CLASS=state` or `CLASS=twins` with it one of State or of twins;
// `RUNS=5000 npm run sim` runs more.
const onlySeed = process.env['SEED'] === undefined ? undefined : Number(process.env['SEED'])
const runs = Number(process.env['RUNS'] ?? 500)
/** Histories with State beside the Log are runs of their own. */
const stateRuns = Math.ceil(runs * 0.3)
/** Histories of twins, too. */
const twinRuns = Math.ceil(runs * 0.2)

function explain({ seed, faultClass, failure }: Outcome): string {
  const kind = faultClass === 'twins' ? 'CLASS=twins ' : stateFaultClasses.some(name => name === faultClass) ? 'CLASS=state ' : ''
  return `seed ${seed} (${faultClass}): ${failure}\n  replay it with a trace: ${kind}SEED=${seed} npm run sim`
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a,
  b) => a - b)[Math.floor(numbers.length / 2)]!

function histogram(name: string, numbers: readonly number[], bucket: number): string {
  const counts = new Map<number, number>()
  for (const number of numbers) {
    const low = Math.floor(number / bucket) * bucket
    counts.set(low, (counts.get(low) ?? 0) + 1)
  }
  const widest = Math.max(...counts.values())
  const rows = [...counts].toSorted(([a], [b]) => a - b).map(([low, count]) =>
    `${String(low).padStart(8)}–${String(low + bucket - 1).padEnd(6)} ` +
    `${'█'.repeat(Math.ceil(count * 40 / widest))} ${count}`)
  return `${name}, median ${median(numbers)}\n${rows.join('\n')}`
}

if (onlySeed !== undefined) test(`seed ${onlySeed} holds, with its trace`, async () => {
  const outcome = await simulate(onlySeed, { plan: planOfClass(onlySeed, process.env['CLASS']), traced: true })
  console.log(outcome.trace.join('\n'))
  expect(outcome.failure, explain(outcome)).toBeUndefined()
})

if (onlySeed === undefined) test(`${runs} seeds hold`, { timeout: Math.max(300_000, runs * 2000) }, async () => {
  const outcomes: Outcome[] = []
  for (let seed = 1; seed <= runs; seed++) outcomes.push(await simulate(seed))
  const failed = outcomes.filter(({ failure }) => failure !== undefined)
  for (const { seed } of failed.slice(0, 1)) console.log((await simulate(seed,
    { traced: true })).trace.slice(-200).join('\n'))
  expect(failed.map(explain), `${failed.length} of ${runs} seeds failed`).toEqual([])
  console.log([
    histogram('steps', outcomes.map(({ steps }) => steps), 1000),
    histogram('faults', outcomes.map(outcome => outcome.faults), 2),
    histogram('restarts', outcomes.map(({ restarts }) => restarts), 2),
    `records ${sum(outcomes, ({ records }) => records)}, ` +
      `acknowledged ${sum(outcomes, ({ acknowledged }) => acknowledged)}, ` +
      `repeated by the sender ${sum(outcomes, ({ repeated }) => repeated)}, gaps ${sum(outcomes, ({ gaps }) => gaps)}`
  ].join('\n\n'))
  expect(median(outcomes.map(({ steps }) => steps))).toBeGreaterThanOrEqual(2000)
  expect(median(outcomes.map(({ faults }) => faults))).toBeGreaterThanOrEqual(10)
  expect(median(outcomes.map(({ restarts }) => restarts))).toBeGreaterThanOrEqual(2)
  if (runs >= 200) expect(new Set(outcomes.map(({ faultClass }) => faultClass))).toEqual(new Set(faultClasses))
})

if (onlySeed === undefined) test(`${stateRuns} seeds with State hold`, { timeout: Math.max(300_000, runs * 2000) }, async () => {
  const outcomes: Outcome[] = []
  for (let seed = 1; seed <= stateRuns; seed++) outcomes.push(await simulate(seed, { plan: statePlanOf(seed) }))
  const failed = outcomes.filter(({ failure }) => failure !== undefined)
  for (const { seed } of failed.slice(0, 1)) console.log((await simulate(seed,
    { plan: statePlanOf(seed), traced: true })).trace.slice(-200).join('\n'))
  expect(failed.map(explain), `${failed.length} of ${stateRuns} seeds failed`).toEqual([])
  console.log(`State: changes ${sum(outcomes, ({ stateChanges }) => stateChanges)}, ` +
    `items put ${sum(outcomes, ({ stateItemsMoved }) => stateItemsMoved)}, not-ready ${sum(outcomes, ({ notReady }) => notReady)}`)
  expect(median(outcomes.map(({ faults }) => faults))).toBeGreaterThanOrEqual(8)
  expect(median(outcomes.map(({ stateChanges }) => stateChanges))).toBeGreaterThanOrEqual(80)
  expect(median(outcomes.map(({ stateItemsMoved }) => stateItemsMoved))).toBeGreaterThanOrEqual(50)
  expect(sum(outcomes, ({ notReady }) => notReady)).toBeGreaterThanOrEqual(stateRuns)
  if (stateRuns >= 60) expect(new Set(outcomes.map(({ faultClass }) => faultClass))).toEqual(new Set(stateFaultClasses))
})

if (onlySeed === undefined) test(`${twinRuns} seeds with twins hold`, { timeout: Math.max(300_000, runs * 2000) }, async () => {
  const outcomes: Outcome[] = []
  for (let seed = 1; seed <= twinRuns; seed++) outcomes.push(await simulate(seed, { plan: twinPlanOf(seed) }))
  const failed = outcomes.filter(({ failure }) => failure !== undefined)
  for (const { seed } of failed.slice(0, 1)) console.log((await simulate(seed, { plan: twinPlanOf(seed), traced: true })).trace.slice(-200).join('\n'))
  expect(failed.map(explain), `${failed.length} of ${twinRuns} seeds failed`).toEqual([])
  console.log(`Twins: writes ${sum(outcomes, ({ stateChanges }) => stateChanges)}, changes told on nodes ${sum(outcomes, ({ stateItemsMoved }) => stateItemsMoved)}`)
  expect(median(outcomes.map(({ faults }) => faults))).toBeGreaterThanOrEqual(8)
  expect(median(outcomes.map(({ stateChanges }) => stateChanges))).toBeGreaterThanOrEqual(150)
  expect(median(outcomes.map(({ stateItemsMoved }) => stateItemsMoved))).toBeGreaterThanOrEqual(100)
})

if (onlySeed === undefined) test('the same seed gives the same run', async () => {
  for (const seed of [2, 3, 7, 10, 12, 38]) {
    for (const plan of [planOf(seed), statePlanOf(seed), twinPlanOf(seed)]) {
      const [first, second] = [await simulate(seed, { plan }), await simulate(seed, { plan })]
      expect(first.failure).toBeUndefined()
      expect(second.digest).toBe(first.digest)
    }
  }
})

for (const side of ['edge', 'cloud'] as const) {
  if (onlySeed === undefined) test(`a disk of the ${side} that ignores fsync is found out`, async () => {
    let found = 0
    const seeds = Array.from({ length: 60 }, (_, i) => i + 1).filter(seed =>
      planOf(seed).faultClass === 'honest').slice(0, 12)
    for (const seed of seeds) {
      const { failure } = await simulate(seed, { forgetful: side })
      if (failure !== undefined) found++
    }
    expect(found).toBeGreaterThanOrEqual(6)
  })
}

function sum(outcomes: readonly Outcome[], of: (outcome: Outcome) => number): number {
  return outcomes.reduce((total, outcome) => total + of(outcome), 0)
}
