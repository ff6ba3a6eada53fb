import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Json } from '../../packages/kube-api/src/object.ts'

/** Where a recorded request used a value of an earlier answer. */
export interface RecordedReference {
  /** `/requestBody/metadata/uid`, `path`, `query:continue` */
  readonly at: string
  readonly value: string
  readonly from: { readonly seq: number, readonly at: string }
}

export interface RecordedEvent {
  readonly ms: number
  readonly type?: string
  readonly object?: Json
}

/** One exchange with a real API server (test/fixtures/kubernetes/README.md). */
export interface RecordedExchange {
  readonly seq: number
  readonly step: string
  readonly atMs: number
  readonly method: string
  readonly path: string
  readonly auth?: 'anonymous'
  readonly requestHeaders: Readonly<Record<string, string>>
  readonly requestBody?: Json
  readonly status: number
  readonly responseHeaders: Readonly<Record<string, string | string[]>>
  readonly responseBody?: Json
  readonly watch?: true
  readonly events?: readonly RecordedEvent[]
  readonly endedBy?: 'client' | 'server'
  readonly refs?: readonly RecordedReference[]
}

/** Something that was done to the server between two requests. */
export interface RecordedAct { readonly comment: string, readonly step: string, readonly atMs: number }

export interface Recording {
  readonly scenario: string
  readonly about: string
  /** Definitions that were there. */
  readonly needs: readonly string[]
  readonly namespace: string | undefined
  readonly recordedAt: string
  readonly steps: readonly (RecordedExchange | RecordedAct)[]
}

export const fixtures = join(import.meta.dirname, '../fixtures/kubernetes')

/** Not replayed: server-side apply is not served. */
const leftOut = new Set(['server-side-apply'])

export function readRecording(scenario: string): Recording {
  const [head, ...steps] = readFileSync(join(fixtures, `${scenario}.jsonl`), 'utf8').trimEnd().split('\n')
    .map(line => JSON.parse(line) as unknown)
  const { meta } = head as { meta: Recording & { needs?: readonly string[] } }
  return {
    scenario, about: meta.about, needs: meta.needs ?? [], namespace: meta.namespace, recordedAt: meta.recordedAt,
    steps: steps as (RecordedExchange | RecordedAct)[]
  }
}

/** Every recording that is replayed, by name. */
export function readRecordings(): Recording[] {
  return readdirSync(fixtures).filter(name => name.endsWith('.jsonl')).map(name => name.slice(0, -'.jsonl'.length))
    .filter(scenario => !leftOut.has(scenario)).toSorted().map(readRecording)
}

export const isExchange = (step: RecordedExchange | RecordedAct): step is RecordedExchange => 'seq' in step
