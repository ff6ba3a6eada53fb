import { formatCount, renderTable, type Column } from '../packages/cli/src/render.ts'
import { check, type Verdict } from '../test/harness/checker.ts'
import type { LatencySummary } from '../test/harness/latency-histogram.ts'
import { publisherPlan, type Accounts, type Findings, type PhaseName } from './stage.ts'

export interface Report {
  /** The table that the demo ends with. */
  readonly text: string
  /** What is not as promised, or did not happen; empty where the demo has proved what it says. */
  readonly problems: readonly string[]
}

/** The verdict about each publisher's devices, and about all. Pure. */
function verdicts({ acks, arrivals }: Accounts): { readonly each: readonly Verdict[], readonly all: Verdict } {
  const each = publisherPlan.map(({ name, first, last }) => check([acks[name]], {
    ...arrivals, devices: arrivals.devices.filter(({ device }) => device >= first && device <= last)
  }))
  return { each, all: check(Object.values(acks), arrivals) }
}

const rows = [
  ['acknowledged', verdict => verdict.acknowledged],
  ['in the cloud', verdict => verdict.inCloud],
  ['lost', verdict => verdict.lost],
  ['twice', verdict => verdict.twice],
  ['repeated by the sender', verdict => verdict.repeatedBySender],
  ['out of order', verdict => verdict.outOfOrder]
] as const satisfies readonly (readonly [string, (verdict: Verdict) => number])[]

const phases: readonly PhaseName[] = ['before', 'during', 'after']

/** What a demo ends with, from the accounts of its publishers and its reader. Pure. */
export function report(accounts: Accounts, findings: Findings): Report {
  const { each, all } = verdicts(accounts)
  const counts = renderTable(
    columns(['', ...publisherPlan.map(({ title }) => title), 'all']),
    rows.map(([title, of]) => [title, ...[...each, all].map(verdict => formatCount(of(verdict)))])
  )
  const latencies = renderTable(
    columns(['', ...phases]),
    latencyRows(accounts).flatMap(({ title, of }) => [
      [`${title}, p50`, ...phases.map(phase => formatLatency(of(phase)?.p50Ms))],
      [`${title}, p99`, ...phases.map(phase => formatLatency(of(phase)?.p99Ms))]
    ])
  )
  return {
    text: `${counts}${surplus(all)}\n${latencies}during: sent from the cut to the end of the catch-up, with both kills\n\n` +
      `catch-up: ${formatCount(findings.catchUpPerSecond)} records/s, from a backlog of ${formatCount(findings.backlog)}\n`,
    problems: problemsOf(all, accounts, findings)
  }
}

const columns = (titles: readonly string[]): Column[] =>
  titles.map((title, i) => ({ title, align: i === 0 ? 'left' : 'right' }))

interface LatencyRow { readonly title: string, readonly of: (phase: PhaseName) => LatencySummary | undefined }

function latencyRows({ publishers, reader }: Accounts): LatencyRow[] {
  return [
    { title: 'PUBACK, QoS 1', of: phase => publishers.qos1.phases[phase]?.ack },
    { title: 'PUBREC, QoS 2', of: phase => publishers.qos2.phases[phase]?.ack },
    { title: 'device to reader', of: phase => reader.phases[phase]?.latency['all'] }
  ]
}

/** Why there may be more in the cloud than was acknowledged. */
function surplus({ inCloud, acknowledged, lost }: Verdict): string {
  const more = inCloud + lost - acknowledged
  return more <= 0 ? ''
    : `${formatCount(more)} more in the cloud than acknowledged: their publishers stopped before they heard of them\n`
}

/** `0.84 ms`, `12.3 ms`, `1.3 s`. */
function formatLatency(ms: number | undefined): string {
  if (ms === undefined || ms < 0) return '-'
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : ms >= 10 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(2)} ms`
}

function problemsOf(all: Verdict, accounts: Accounts, findings: Findings): string[] {
  const { publishers } = accounts
  const must = (holds: boolean, otherwise: string): string[] => holds ? [] : [otherwise]
  return [
    ...must(all.lost === 0, `${all.lost} acknowledged records are lost`),
    ...must(all.twice === 0, `${all.twice} records are there twice, and their senders did not repeat them`),
    ...must(all.outOfOrder === 0, `${all.outOfOrder} records are out of order`),
    ...must(all.unknown === 0, `${all.unknown} records that nobody sent`),
    ...must(all.inGaps === 0, `${all.inGaps} records are behind gap records`),
    ...must(accounts.reader.foreign === 0, `${accounts.reader.foreign} records of unknown content`),
    ...publisherPlan.flatMap(({ name, title }) => [
      ...must(publishers[name].acknowledged > 0, `nothing was acknowledged to: ${title}`),
      ...must(publishers[name].reconnects > 0, `did not feel that edgecore was killed: ${title}`)
    ]),
    ...must(findings.linkCuts > 0, 'the link was not cut'),
    ...must(findings.acknowledgedOffline > 0, 'nothing was acknowledged while the link was cut'),
    ...must(findings.edgeKills > 0, 'edgecore was not killed'),
    ...must(findings.waitingAtEdgeKill > 0, 'nothing waited on the node when edgecore was killed'),
    ...must(findings.waitingAfterEdgeKill >= findings.waitingAtEdgeKill,
      'fewer records waited on the node after the kill than before'),
    ...must(findings.cloudKills > 0, 'cloudcore was not killed'),
    ...must(findings.arrivedAtCloudKill > 0 && findings.waitingAtCloudKill > 0,
      'cloudcore was not killed in the middle of the catch-up'),
    ...must(accounts.reader.connections > 1, 'the reader did not feel that cloudcore was killed'),
    ...all.examples
  ]
}
