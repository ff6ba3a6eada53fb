import { expect, test } from 'vitest'
import { knownDifferences, knownRequests } from './known-differences.ts'
import { isExchange, readRecordings } from './recording.ts'
import { replay, type Replayed } from './replay.ts'

const recordings = readRecordings()
const counted: Replayed[] = []

test.each(recordings)('$scenario is answered as a real API server did', async recording => {
  const known = knownRequests(recording.scenario)
  const replayed = await replay(recording)
  counted.push(...replayed)
  expect(replayed.length).toBe(recording.steps.filter(isExchange).length)
  const unknown = replayed.filter(({ exchange, differences }) => differences.length > 0 && !known.has(exchange.seq))
  expect(unknown.map(described).join('\n')).toBe('')
  const gone = replayed.filter(({ exchange, differences }) => differences.length === 0 && known.has(exchange.seq))
  expect(gone.map(described).join('\n'), 'take these out of known-differences.ts').toBe('')
  const failed = replayed.filter(({ exchange, status }) => status >= 500 && status !== exchange.status)
  expect(failed.map(described).join('\n'), 'no difference is a failure').toBe('')
})

test('every known difference is of a recorded request, once', () => {
  const named = knownDifferences.flatMap(({ scenario, requests }) => requests.map(seq => `${scenario} ${seq}`))
  const recorded = new Set(recordings.flatMap(({ scenario, steps }) =>
    steps.filter(isExchange).map(({ seq }) => `${scenario} ${seq}`)))
  expect(named.filter(name => !recorded.has(name))).toEqual([])
  expect(new Set(named).size).toBe(named.length)
})

test('the count', () => {
  const alike = counted.filter(({ differences }) => differences.length === 0).length
  const known = knownDifferences.flatMap(({ requests }) => requests).length
  console.log(`${alike} of ${counted.length} exchanges alike`)
  expect(alike + known).toBe(counted.length)
})

function described({ scenario, exchange, differences }: Replayed): string {
  const { seq, step, method, path } = exchange
  return [`${scenario} ${seq} ${step}: ${method} ${path}`, ...differences.slice(0, 8).map(line => `  ${line}`)].join('\n')
}
