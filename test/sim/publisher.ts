import { RecordTopic } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import type { SeededRandom } from '@holdfast/runtime'
import type { Edge } from './edge.ts'
import type { Ledger } from './ledger.ts'
import type { World } from './world.ts'

export interface PublisherOptions {
  readonly device: string
  readonly lane: string
  /** Publishes that may be unacknowledged. */
  readonly window: number
  readonly payloadBytesMax: number
}

interface Waiting { readonly seq: number, readonly bytes: number }

/**
 * A device with QoS 1: numbers its records, keeps them until they are acknowledged, and after a refusal or a broken
 * connection sends again from the oldest unacknowledged one on, in order.
 */
export class Publisher {
  readonly options: PublisherOptions
  readonly topic: RecordTopic
  edge: Edge
  /** Records that were asked for and not yet sent for the first time. */
  backlog = 0
  acknowledged = 0
  #nextSeq = 1
  /** Sent on some connection and not acknowledged, oldest first. */
  readonly #waiting: Waiting[] = []
  /** How many of `#waiting` were sent on this connection. */
  #sent = 0
  /** Number of the connection; an acknowledgement on an older one reaches nobody. */
  #connection = 0
  #retrying = false
  readonly #world: World
  readonly #random: SeededRandom
  readonly #ledger: Ledger

  constructor(options: PublisherOptions, edge: Edge, ledger: Ledger, world: World) {
    this.options = options
    this.topic = new RecordTopic(`devices/${options.device}/telemetry`, options.device)
    this.edge = edge
    this.#ledger = ledger
    this.#world = world
    this.#random = world.random
  }

  describe(): string {
    return `${this.options.device}/${this.options.lane} waiting ${this.#waiting.length} ` +
      `(${this.#waiting[0]?.seq}) sent ${this.#sent} retrying ${this.#retrying}`
  }

  get idle(): boolean { return this.backlog === 0 && this.#waiting.length === 0 }

  publish(count: number): void {
    this.backlog += count
    this.pump()
  }

  /** The edge's process is gone: so is the connection. */
  disconnected(): void {
    this.#connection++
    this.#sent = 0
    this.#retryLater()
  }

  pump(): void {
    if (this.#retrying) return
    while (this.#sent < this.#waiting.length || (this.backlog > 0 && this.#waiting.length < this.options.window)) {
      if (this.#sent === this.#waiting.length) {
        this.backlog--
        this.#waiting.push({ seq: this.#nextSeq++, bytes: this.#payloadBytes() })
      }
      if (!this.#send(this.#waiting[this.#sent]!)) {
        // Refused: the broker holds the connection for a while before it closes it, so what was taken is acknowledged.
        this.#retryLater()
        return
      }
      this.#sent++
    }
  }

  #payloadBytes(): number {
    const { payloadBytesMax } = this.options
    const large = this.#random.chance(0.08)
    return 16 + Math.floor(this.#random.next() * (large ? payloadBytesMax : Math.min(payloadBytesMax, 200)))
  }

  #send({ seq, bytes }: Waiting): boolean {
    const running = this.edge.running
    const lane = running?.outbox.lane(this.options.lane)
    if (running === undefined || lane === undefined || !running.process.alive) return false
    const { attempt, payload } = this.#ledger.attempt(this.options.device, this.options.lane, this.edge, seq, bytes)
    const connection = this.#connection
    const generation = this.edge.generation(lane)
    try {
      const commit = running.outbox.gather(lane, payload.length)
      running.outbox.append(commit, lane, this.topic, payload)
      commit.onDurable(error => {
        if (error === undefined) this.#ledger.offset(attempt, this.edge, lane, generation)
        if (!running.process.output() || connection !== this.#connection) return
        if (error === undefined) this.#acknowledge(seq, attempt)
        else this.disconnected()
      })
      this.#ledger.appended(attempt, generation)
      return true
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error
      return false
    }
  }

  #acknowledge(seq: number, attempt: number): void {
    const first = this.#waiting.shift()
    this.#world.expect(first?.seq === seq, () => `${this.options.device}: acknowledged ${seq}, expected ${first?.seq}`)
    this.#sent--
    this.acknowledged++
    this.#ledger.acknowledge(attempt)
    if (!this.#retrying) this.#world.after(0, () => { this.pump() })
  }

  #retryLater(): void {
    if (this.#retrying) return
    this.#retrying = true
    this.#world.after(200 + this.#random.next() * 1500, () => {
      this.#retrying = false
      this.pump()
    })
  }
}
