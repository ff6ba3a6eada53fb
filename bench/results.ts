import { execFileSync } from 'node:child_process'
import { globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Column, Round } from './bench-row.ts'

/** One run of `npm run bench`, as it is kept in bench/results/. */
export interface BenchRun {
  readonly format: 1
  readonly startedAt: string
  readonly seconds: number
  /** "+" at its end: there were changes that are not in it. */
  readonly commit: string
  readonly machine: {
    readonly processor: string
    readonly cores: number
    readonly memoryBytes: number
    readonly kernel: string
    readonly disk: string
    /** Of one minute, before the start: above 0.5, somebody else was at work too. */
    readonly loadAverage: number
  }
  readonly versions: { readonly node: string, readonly holdfast: string }
  readonly configuration: BenchConfiguration
  readonly rows: readonly RowResult[]
}

/** The same for every row, but where a row says otherwise. */
export interface BenchConfiguration {
  /** V8 flags of the running daemons, from their command lines. */
  readonly edgecoreFlags: readonly string[]
  readonly cloudcoreFlags: readonly string[]
  readonly settings: string
}

export interface RowResult {
  readonly id: string
  readonly question: string
  readonly how: string
  readonly columns: Readonly<Record<string, Column>>
  readonly rounds: readonly Round[]
  readonly seconds: number
  /** Why it was not run here. */
  readonly notRun?: string
}

export const projectFolder = fileURLToPath(new URL('..', import.meta.url))
const resultsFolder = join(projectFolder, 'bench/results')

export function machineFacts(folder: string): BenchRun['machine'] {
  const processors = cpus()
  return {
    processor: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
    disk: output('df', ['--output=fstype', folder])?.split('\n')[1] ?? 'unknown',
    loadAverage: loadavg()[0]!
  }
}

export function versionFacts(): { commit: string, versions: BenchRun['versions'] } {
  const head = output('git', ['rev-parse', '--short', 'HEAD']) ?? 'unknown'
  const status = output('git', ['status', '--porcelain', '--untracked-files=no', 'packages', 'protos'])
  const changed = status !== undefined && status !== ''
  const { version } = JSON.parse(readFileSync(join(projectFolder, 'package.json'), 'utf8')) as { version: string }
  return { commit: `${head}${changed ? '+' : ''}`, versions: { node: process.versions.node, holdfast: version } }
}

function output(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { cwd: projectFolder, stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim()
  } catch {
    return undefined
  }
}

/** Keeps a run; returns its path within the project. */
export function keepRun(run: BenchRun): string {
  mkdirSync(resultsFolder, { recursive: true })
  const stamp = run.startedAt.slice(0, 16).replace('T', '-').replace(':', '')
  const name = `${stamp}-${run.commit.replace('+', '-changed')}.json`
  writeFileSync(join(resultsFolder, name), JSON.stringify(run, null, 1) + '\n')
  return `bench/results/${name}`
}

/** Every run that was kept, oldest first. */
export function keptRuns(): { readonly path: string, readonly run: BenchRun }[] {
  return globSync('*.json', { cwd: resultsFolder }).map(name => ({
    path: `bench/results/${name}`, run: JSON.parse(readFileSync(join(resultsFolder, name), 'utf8')) as BenchRun
  })).toSorted((a, b) => a.run.startedAt.localeCompare(b.run.startedAt))
}

export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
  readonly rounds: number
}

/** Of the rounds that have this value; undefined where none has. */
export function spreadOf(rounds: readonly Round[], key: string): Spread | undefined {
  const measured = rounds.map(round => round.values[key]).filter(value => value !== undefined)
  const values = measured.toSorted((a, b) => a - b)
  if (values.length === 0) return undefined
  const middle = values.length >> 1
  const median = values.length % 2 === 1 ? values[middle]! : (values[middle - 1]! + values[middle]!) / 2
  return { median, low: values[0]!, high: values.at(-1)!, rounds: values.length }
}

/** `yes`, `no`, or nothing where nothing was asked for. */
export function reached(column: Column, median: number): 'yes' | 'no' | '' {
  if (column.atLeast === undefined && column.atMost === undefined) return ''
  return median >= (column.atLeast ?? -Infinity) && median <= (column.atMost ?? Infinity) ? 'yes' : 'no'
}

/** The bound as people write it. */
export function goalOf(column: Column): string {
  if (column.atLeast !== undefined) return `≥ ${numberText(column.atLeast, column.unit)}`
  if (column.atMost !== undefined) return `≤ ${numberText(column.atMost, column.unit)}`
  return ''
}

export function numberText(value: number, unit: string): string {
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2
  const text = value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  return unit === '' ? text : unit.startsWith('/') || unit === '×' ? `${text}${unit}` : `${text} ${unit}`
}
