import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { usageOf } from '../test/harness/process-usage.ts'
import { repeat, round3, type BenchRow, type Round } from './bench-row.ts'
import { FanOutProcess } from './k-process.ts'
import type { Judgement, JudgeCommand } from './k-watchers.ts'
import type { WriteCommand, WriteResult } from './k-writer.ts'

type Key = 'rate' | 'events' | 'lost' | 'disordered' | 'dropped' | 'p50' | 'p99' | 'cpu' | 'start' | 'middle' | 'end' | 'growth'

const watches = 100
const rate = 1000
const seconds = 30
/** As many as the history of changes holds: what it costs is there before the measurement. */
const warmUpUpdates = 20_000
/** At the rate that is measured then, with all watches: until V8 has collected its heap as a whole. */
const settlingSeconds = 20
/** As cloudcore's launcher sets it. */
const flags = ['--max-semi-space-size=16']

/** Many watches of one resource. */
export const watchFanOut: BenchRow<Key> = {
  id: 'k',
  question: 'Do 100 watches of the embedded Kubernetes API follow 1,000 updates a second?',
  how: `kube-api in a process of its own, HTTPS, objects in LevelDB; ${watches} watches in a second process, each on its own `
    + `connection; a third one updates 200 ConfigMaps of 0.5 KB at ${rate}/s for ${seconds} s, after `
    + `${warmUpUpdates.toLocaleString('en-US')} updates flat out that fill the history of changes, and ${settlingSeconds} s at `
    + 'that rate. Every watch has to be sent every resourceVersion, in order. Latency is from the answer to the writer to the '
    + 'event at a watch; RssAnon is the lowest of samples in a tenth of the time.',
  columns: {
    rate: { title: 'updates answered', unit: '/s', atLeast: rate * 0.99 },
    events: { title: 'events sent', unit: '/s' },
    lost: { title: 'events lost', unit: '', atMost: 0 },
    disordered: { title: 'events out of order or invented', unit: '', atMost: 0 },
    dropped: { title: 'watches dropped', unit: '', atMost: 0 },
    p50: { title: 'answer to event p50', unit: 'ms' },
    p99: { title: 'answer to event p99', unit: 'ms' },
    cpu: { title: 'kube-api, of one core', unit: '%' },
    start: { title: 'kube-api RssAnon at the start', unit: 'MB' },
    middle: { title: 'kube-api RssAnon in the middle', unit: 'MB' },
    end: { title: 'kube-api RssAnon at the end', unit: 'MB' },
    growth: { title: 'growth from the start to the end', unit: 'MB', atMost: 15 }
  },
  measure: async context => await repeat(context, () => round({ watches, rate, seconds, settlingSeconds, warmUpUpdates }))
}

export interface FanOutLoad {
  readonly watches: number
  readonly rate: number
  readonly seconds: number
  readonly settlingSeconds: number
  readonly warmUpUpdates: number
}

/** `apiFlags`: of Node for the process that serves. */
export async function round(load: FanOutLoad, apiFlags: readonly string[] = flags): Promise<Round<Key>> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-fan-out-'))
  try {
    return await roundIn(folder, load, apiFlags)
  } finally {
    await rm(folder, { recursive: true })
  }
}

async function roundIn(folder: string, load: FanOutLoad, apiFlags: readonly string[]): Promise<Round<Key>> {
  const [token, answersFile] = ['token-of-the-bench', join(folder, 'answers')]
  await using api = new FanOutProcess('./k-api.ts', [folder, token], apiFlags)
  const access = [await api.line(), token, join(folder, 'ca.pem')]
  await using writer = new FanOutProcess('./k-writer.ts', access)
  const { revision } = JSON.parse(await writer.line()) as { revision: number }
  const after = await warmUp(access, writer, revision, load.warmUpUpdates)
  const count = load.rate * load.seconds
  const settling = load.rate * load.settlingSeconds
  await using watchers = await watching(access, load.watches, after, settling + count)
  await writer.ask<WriteResult>({ count: settling, rate: load.rate } satisfies WriteCommand)
  const samples: number[] = []
  const sampling = setInterval(() => { samples.push(usageOf(api.pid).rssAnonBytes) }, 100)
  const before = usageOf(api.pid)
  try {
    const written = await writer.ask<WriteResult>({ count, rate: load.rate, answersFile } satisfies WriteCommand)
    const judge: JudgeCommand = { first: written.first, last: written.last, answersFile, withinMs: 10_000 }
    const judgement = await watchers.ask<Judgement>(judge)
    const cpuSeconds = usageOf(api.pid).cpuSeconds - before.cpuSeconds
    const tenth = Math.ceil(samples.length / 10)
    const lowestMb = (from: number): number => Math.round(Math.min(...samples.slice(from, from + tenth)) / 1e6)
    const [start, middle, end] = [lowestMb(0), lowestMb((samples.length - tenth) >> 1), lowestMb(samples.length - tenth)]
    return {
      values: {
        rate: round3(count / written.seconds),
        events: round3((load.watches * count - judgement.lost) / written.seconds),
        lost: judgement.lost,
        disordered: judgement.disordered,
        dropped: judgement.dropped,
        p50: judgement.latency.p50Ms,
        p99: judgement.latency.p99Ms,
        cpu: round3(100 * cpuSeconds / written.seconds),
        start, middle, end,
        growth: end - start
      }
    }
  } finally {
    clearInterval(sampling)
  }
}

/** So many open watches, each of which expects so many events after that resourceVersion. */
async function watching(access: readonly string[], count: number, after: number, events: number): Promise<FanOutProcess> {
  const watchers = new FanOutProcess('./k-watchers.ts', [...access, ...[count, after, events].map(String)])
  await watchers.line()
  return watchers
}

/** Fills the history, with the lines that are kept once a watch has been sent them. Gives the last resourceVersion. */
async function warmUp(access: readonly string[], writer: FanOutProcess, revision: number, updates: number): Promise<number> {
  const reader = await watching(access, 1, revision, updates)
  try {
    return (await writer.ask<WriteResult>({ count: updates } satisfies WriteCommand)).last
  } finally {
    await reader[Symbol.asyncDispose]()
  }
}
