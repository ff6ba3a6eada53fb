import { HttpServer } from '@holdfast/runtime'
import type { Clock, Log, NodeName, Service } from '@holdfast/runtime'
import type { Committer, Outbox, OutboxLane, Store } from '@holdfast/store'
import type { EdgecoreConfig } from '../config.ts'
import type { Resolution } from '../routes.ts'
import type { DeviceTwin, DeviceTwins } from '../twins/device-twins.ts'
import type { DeviceReports } from '../mappers/index.ts'
import { deviceReportRoute } from './device-report.ts'
import { IdempotencyKeys } from './idempotency.ts'
import { httpLimits } from './limits.ts'
import { recordsRoute } from './records.ts'
import { telemetryRoutes } from './telemetry.ts'
import type { TelemetryCounters } from './telemetry.ts'
import { TwinRoutes } from './twin-routes.ts'

export interface DeviceApiComponents {
  readonly node: NodeName
  /** Where Idempotency-Keys are kept: the outbox's own store. */
  readonly store: Store
  readonly committer: Committer
  readonly outbox: Outbox
  readonly routes: { resolve(topic: string): Resolution<OutboxLane> }
  readonly twins: DeviceTwins
  /** What devices send of their own accord; undefined: no mapper takes that. */
  readonly reports?: DeviceReports
  /** What keeps a device from being served (TWN-41); '': nothing. Undefined: that is not known. */
  readonly troubleOf: (device: DeviceTwin) => string | undefined
  readonly clock: Clock
  readonly log: Log
  /** Told of acknowledgements: how many records, and how long their commit took. */
  readonly onAcks?: (count: number, latencyMs: number) => void
}

const drainMs = 2000

/**
 * The HTTP port for devices and local applications: telemetry in (telemetry.ts), records out (records.ts), twins both ways
 * (twin-routes.ts). Whoever reaches it is trusted: loopback by default.
 */
export class DeviceApi implements Service {
  readonly name = 'http'
  readonly counters: TelemetryCounters
  readonly #server: HttpServer
  readonly #keys: IdempotencyKeys
  readonly #twins: TwinRoutes

  private constructor(server: HttpServer, keys: IdempotencyKeys, twins: TwinRoutes, counters: TelemetryCounters) {
    this.#server = server
    this.#keys = keys
    this.#twins = twins
    this.counters = counters
  }

  /** Listens; `config` is the section `http`. Rejects with `LISTEN_FAILED`, or with the store's errors. */
  static async open(config: EdgecoreConfig['http'], components: DeviceApiComponents): Promise<DeviceApi> {
    const { node, store, committer, outbox, routes, twins, reports, troubleOf, clock, log, onAcks } = components
    const counters: TelemetryCounters = { records: 0, requests: 0, replayed: 0, refused: new Map() }
    const keys = await IdempotencyKeys.open({ ageMs: config.idempotencyAge, keysMax: config.idempotencyKeysMax }, store, {
      uptimeMs: () => outbox.uptimeMs()
    })
    const twinRoutes = new TwinRoutes({
      bodyBytesMax: config.bodyBytesMax,
      watchesMax: Math.min(httpLimits.twinWatches.value, Math.max(1, Math.floor(config.connectionsMax / 2))),
      heartbeatMs: httpLimits.twinWatchHeartbeatSeconds.value * 1000,
      stallMs: httpLimits.twinWatchStallSeconds.value * 1000
    }, {
      twins, troubleOf, clock, refused: counters.refused,
      ...onAcks !== undefined && { onAck: latencyMs => onAcks(1, latencyMs) }
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
      recordsRoute({ node, readersMax }, { outbox, failure: () => committer.failure, log }),
      ...twinRoutes.routes,
      ...reports === undefined ? [] : [deviceReportRoute(config, {
        reports, clock, refused: counters.refused, ...onAcks !== undefined && { onAck: latencyMs => onAcks(1, latencyMs) }
      })]
    ], { log })
    return new DeviceApi(server, keys, twinRoutes, counters)
  }

  get url(): string { return this.#server.url }

  /** Requests being handled now. */
  get requestsInFlight(): number { return this.#server.requestsInFlight }

  /** Open watches of twins; they are no requests in flight. */
  get watches(): number { return this.#twins.watches }

  /** Idempotency-Keys that are stored. */
  get idempotencyKeys(): number { return this.#keys.size }

  /** Goes on with a store that was opened anew after a failed write; after the outbox has. */
  reopen(store: Store): Promise<void> { return this.#keys.reopen(store) }

  /** Answers what is in flight, then closes. */
  run(signal: AbortSignal): Promise<void> { return this.#server.run(signal) }
}
