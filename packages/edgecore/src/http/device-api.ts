import { HttpServer } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Service } from '@holdfast/runtime'
import type { Committer, Outbox, OutboxLane, Store } from '@holdfast/store'
import type { EdgecoreConfig } from '../config.ts'
import type { Resolution } from '../routes.ts'
import { IdempotencyKeys } from './idempotency.ts'
import { httpLimits } from './limits.ts'
import { recordsRoute } from './records.ts'
import { telemetryRoutes } from './telemetry.ts'
import type { TelemetryCounters } from './telemetry.ts'

export interface DeviceApiComponents {
  readonly node: NodeName
  /** Where Idempotency-Keys are kept: the outbox's own store. */
  readonly store: Store
  readonly committer: Committer
  readonly outbox: Outbox
  readonly routes: { resolve(topic: string): Resolution<OutboxLane> }
  readonly clock: Clock
  readonly log: Log
  /** Told of acknowledgements: how many records, and how long their commit took. */
  readonly onAcks?: (count: number, latencyMs: number) => void
}

const drainMs = 2000

/**
 * The HTTP port for devices and local applications: telemetry in (telemetry.ts), records out (records.ts). Whoever reaches
 * it is trusted: loopback by default.
 */
export class DeviceApi implements Service {
  readonly name = 'http'
  readonly counters: TelemetryCounters
  readonly #server: HttpServer
  readonly #keys: IdempotencyKeys

  private constructor(server: HttpServer, keys: IdempotencyKeys, counters: TelemetryCounters) {
    this.#server = server
    this.#keys = keys
    this.counters = counters
  }

  /** Listens; `config` is the section `http`. Rejects with `LISTEN_FAILED`, or with the store's errors. */
  static async open(config: EdgecoreConfig['http'], components: DeviceApiComponents): Promise<DeviceApi> {
    const { node, store, committer, outbox, routes, clock, log, onAcks } = components
    const counters: TelemetryCounters = { records: 0, requests: 0, replayed: 0, refused: new Map() }
    const keys = await IdempotencyKeys.open({ ageMs: config.idempotencyAge, keysMax: config.idempotencyKeysMax }, store, {
      uptimeMs: () => outbox.uptimeMs()
    })
    const readersMax = Math.min(httpLimits.recordsReaders.value, Math.max(1, Math.floor(config.requestsInFlightMax / 4)))
    const server = await HttpServer.open({
      name: 'http',
      host: config.host,
      port: config.port,
      bodyBytesMax: config.bodyBytesMax,
      connectionsMax: config.connectionsMax,
      requestsInFlightMax: config.requestsInFlightMax,
      headersTimeoutMs: config.headersTimeout,
      requestTimeoutMs: config.requestTimeout,
      idleTimeoutMs: config.idleTimeout,
      drainMs
    }, [
      ...telemetryRoutes(config, {
        sink: outbox, routes, keys, clock, counters, ...onAcks === undefined ? {} : { onAcks }
      }),
      recordsRoute({ node, readersMax }, { outbox, failure: () => committer.failure, log })
    ], { log })
    return new DeviceApi(server, keys, counters)
  }

  get url(): string { return this.#server.url }

  /** Requests being handled now. */
  get requestsInFlight(): number { return this.#server.requestsInFlight }

  /** Idempotency-Keys that are stored. */
  get idempotencyKeys(): number { return this.#keys.size }

  /** Goes on with a store that was opened anew after a failed write; after the outbox has. */
  reopen(store: Store): Promise<void> { return this.#keys.reopen(store) }

  /** Answers what is in flight, then closes. */
  run(signal: AbortSignal): Promise<void> { return this.#server.run(signal) }
}
