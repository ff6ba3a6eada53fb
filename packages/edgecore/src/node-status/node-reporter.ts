import { describeError } from '@holdfast/runtime'
import type { Clock, Log, Service, Timer } from '@holdfast/runtime'
import { nodeStatusLimits } from './limits.ts'
import type { Machine } from './machine.ts'
import { nodeStatus, sameStatus, seePressures } from './node-status.ts'
import type { NodeFacts, NodeStatus, PressuresSeen } from './node-status.ts'

export interface NodeReporterComponents {
  readonly machine: Machine
  /** Where the status goes: kept over restarts, and sent to the cloud. */
  readonly reports: {
    read(): NodeStatus | undefined
    /** `onDurable` runs once. */
    write(status: NodeStatus, onDurable: (error?: Error) => void): void
  }
  readonly facts: () => NodeFacts
  readonly clock: Clock
  readonly log: Log
}

/**
 * Looks at the machine now and then, and reports it as the node's status when something besides times is different, or when
 * the last report is old. A start on which nothing has changed reports nothing.
 */
export class NodeReporter implements Service {
  readonly name = 'node-status'
  /** Reports that are durable, since start. */
  reports = 0
  readonly #components: NodeReporterComponents
  #pressures: PressuresSeen = {}
  #reportedMs: number
  #timer: Timer | undefined
  #sampling: Promise<void> | undefined
  #told = ''

  constructor(components: NodeReporterComponents) {
    this.#components = components
    this.#reportedMs = components.clock.monotonicMs()
  }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) {
      this.#next()
      await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
    }
    this.#timer?.cancel()
    await this.#sampling
    this.#timer?.cancel()
  }

  #next(): void {
    this.#sampling = this.sample().then(() => {
      this.#timer = this.#components.clock.after(nodeStatusLimits.sampleIntervalMs.value, () => this.#next())
    })
  }

  /** Looks once. Resolves when what came of it is durable; never rejects: what fails is tried again at the next look. */
  async sample(): Promise<void> {
    const { machine, reports, facts, clock, log } = this.#components
    try {
      const sample = await machine.sample()
      const now = { wallMs: clock.wallMs(), monotonicMs: clock.monotonicMs() }
      const known = facts()
      this.#pressures = seePressures(this.#pressures, sample, known, now.monotonicMs)
      const previous = reports.read()
      const status = nodeStatus(previous, sample, known, this.#pressures, now)
      const isOld = now.monotonicMs - this.#reportedMs >= nodeStatusLimits.reportIntervalMs.value
      if (previous !== undefined && !isOld && sameStatus(previous, status)) return
      await new Promise<void>((resolve, reject) => {
        reports.write(status, error => {
          if (error === undefined) resolve()
          else reject(error)
        })
      })
      this.#reportedMs = now.monotonicMs
      this.reports++
      this.#told = ''
    } catch (error) {
      const text = describeError(error)
      if (text !== this.#told) log.warn('the node status was not reported; it is tried again', { error: text })
      this.#told = text
    }
  }
}
