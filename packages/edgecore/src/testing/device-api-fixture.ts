import { SystemClock, SystemRandom, loadConfig, parseNodeName, silentLog } from '@holdfast/runtime'
import { Committer, MemoryStore, Outbox } from '@holdfast/store'
import type { LaneOptions, Store } from '@holdfast/store'
import { bootIdFromBytes } from '@holdfast/protos'
import { edgecoreSchema } from '../config.ts'
import type { EdgecoreConfig } from '../config.ts'
import { Routes } from '../routes.ts'
import type { RouteRule } from '../routes.ts'
import { DeviceApi } from '../http/device-api.ts'
import type { DeviceTwins } from '../twins/device-twins.ts'

export const telemetryLane: LaneOptions = {
  priority: 'normal', bytesMax: 64 * 1024 * 1024, ageMaxMs: undefined, overflow: 'reject', commitIntervalMs: 0,
  keepBytes: 64 * 1024 * 1024, keepAgeMs: 3_600_000
}

/** A store whose writes wait for `release`, or fail, when told to. */
export class GatedStore implements Store {
  readonly inner: Store
  mode: 'pass' | 'hold' | 'fail' = 'pass'
  #held: (() => void)[] = []

  constructor(inner: Store = new MemoryStore()) { this.inner = inner }

  /** Writes that wait. */
  get held(): number { return this.#held.length }

  release(): void {
    this.mode = 'pass'
    for (const go of this.#held.splice(0)) go()
  }

  write(...[ops, options, onDone]: Parameters<Store['write']>): void {
    if (this.mode === 'hold') this.#held.push(() => this.inner.write(ops, options, onDone))
    else if (this.mode === 'fail') queueMicrotask(() => onDone(new Error('no such luck')))
    else this.inner.write(ops, options, onDone)
  }

  get(key: Uint8Array): ReturnType<Store['get']> { return this.inner.get(key) }
  scan(options: Parameters<Store['scan']>[0]): ReturnType<Store['scan']> { return this.inner.scan(options) }
  compact(...range: Parameters<Store['compact']>): ReturnType<Store['compact']> { return this.inner.compact(...range) }
  async close(): Promise<void> {}
}

export interface HeldRecord {
  readonly lane: string
  readonly offset: number
  readonly device: string
  readonly topic: string
  readonly payload: string
}

export interface EdgeOptions {
  readonly store?: Store
  /** Default: there are none. */
  readonly twins?: DeviceTwins
  readonly lanes?: Readonly<Record<string, LaneOptions>>
  readonly rules?: readonly RouteRule[]
  readonly http?: Partial<EdgecoreConfig['http']>
  readonly onAcks?: (count: number, latencyMs: number) => void
}

export interface Edge extends AsyncDisposable {
  readonly store: Store
  readonly committer: Committer
  readonly outbox: Outbox
  readonly api: DeviceApi
  readonly url: string
  /** What the outbox holds, oldest first, as `GET /v1/records?encoding=utf8` shows it. */
  records(): Promise<HeldRecord[]>
}

const noTwins: DeviceTwins = {
  size: 0, get: () => undefined, all: () => [], subscribe: () => () => {},
  write: () => { throw new Error('there is no device') }
}

/** An outbox over `store` and a device API in front of it, on a free port. */
export async function openEdge(options: EdgeOptions = {}): Promise<Edge> {
  const store = options.store ?? new MemoryStore()
  const clock = new SystemClock()
  const random = new SystemRandom()
  const committer = new Committer({}, { store, clock, onFailure: () => {} })
  const outbox = await Outbox.open({
    lanes: options.lanes ?? { alarms: { ...telemetryLane, priority: 'high' }, telemetry: telemetryLane },
    bootId: bootIdFromBytes(random.bytes(8)), suspect: false
  }, store, { committer, clock, random, log: silentLog, clockSynchronised: () => true })
  const { http, routes: defaultRules } = await loadConfig(edgecoreSchema, {})
  const rules = options.rules ?? defaultRules.filter(({ lane }) => outbox.lane(lane) !== undefined)
  const routes = new Routes({ rules, lane: name => outbox.lane(name) })
  const api = await DeviceApi.open({ ...http, port: 0, ...options.http }, {
    node: parseNodeName('edge-1')!, store, committer, outbox, routes, clock, log: silentLog,
    twins: options.twins ?? noTwins, troubleOf: () => undefined,
    ...options.onAcks === undefined ? {} : { onAcks: options.onAcks }
  })
  const { url } = api
  return {
    store, committer, outbox, api, url,
    async records() {
      const text = await (await fetch(`${url}/v1/records?encoding=utf8`)).text()
      return text.split('\n').filter(line => line !== '').map(line => JSON.parse(line) as HeldRecord)
    },
    async [Symbol.asyncDispose]() {
      if (store instanceof GatedStore) store.release()
      await api.run(AbortSignal.abort())
      outbox.close()
      await committer.close()
    }
  }
}

/** Polls until `condition` holds. Rejects after five seconds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 5000
  while (!await condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within 5 s: ${condition.toString()}`)
    await new Promise<void>(resolve => { setImmediate(resolve) })
  }
}
