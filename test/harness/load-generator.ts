// Load over raw MQTT 3.1.1, a process of its own: `node test/harness/load-generator.ts --help`.
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { DevicePublisher, type LoadSettings } from './device-publisher.ts'
import { LatencyHistogram, type LatencySummary } from './latency-histogram.ts'
import { monotonicUs } from './marker.ts'

/** What happened between two `phase` commands. */
export interface LoadPhase {
  readonly sent: number
  readonly acknowledged: number
  readonly seconds: number
  readonly ratePerSecond: number
  /** From the send, or with `--rate` from the time that the schedule asked for, to PUBACK or PUBREC. */
  readonly ack: LatencySummary
}

/** The last line of standard output. */
export interface LoadResult {
  readonly kind: 'final'
  readonly connections: number
  readonly qos: number
  readonly payloadBytes: number
  readonly window: number
  readonly rate: number
  /** Records sent for the first time. */
  readonly sent: number
  readonly acknowledged: number
  /** From the first send to the last acknowledgement. */
  readonly seconds: number
  readonly ratePerSecond: number
  readonly ack: LatencySummary
  readonly phases: Readonly<Record<string, LoadPhase>>
  readonly reconnects: number
  /** Connections that were lost for good, where `--resend` is not given. */
  readonly closed: number
  /** Persistent sessions that the broker did not have any more. */
  readonly sessionsLost: number
  /** Sends that may have made a further record of the same content. */
  readonly repeatedSends: number
  /** Acknowledgements that overtook another [MQTT-4.6.0-2]. */
  readonly ackInversions: number
  readonly bytesOut: number
  readonly cpuSeconds: number
}

/** A line that `--progress-ms` writes; counts since the line before. */
export interface LoadProgress {
  readonly kind: 'progress'
  readonly sent: number
  readonly acknowledged: number
  readonly connected: number
  readonly ack: LatencySummary
}

/** `--ack-file`: what each device was told. */
export interface AckFile {
  readonly qos: number
  readonly devices: readonly DeviceAcks[]
}

export interface DeviceAcks {
  readonly device: number
  /** Sequences from `first` to below `next` were sent. */
  readonly first: number
  readonly next: number
  /** Inclusive ranges of them that nobody acknowledged. */
  readonly unacknowledged: readonly (readonly [number, number])[]
  /** Inclusive ranges that were sent once more as new messages; a range counts as often as it is listed. */
  readonly repeated: readonly (readonly [number, number])[]
}

const help = `node test/harness/load-generator.ts --port N [options]
  --host 127.0.0.1        --connections 50        one device each
  --count N | --seconds S what to send; without either, until "stop"
  --rate 0                records per second of all together, by absolute schedule; 0: as fast as the windows allow
  --size 128 --payload json|incompressible
  --qos 0|1|2 --window 20 unacknowledged records of a connection
  --topic FORMAT          "%d" is the device; given twice, the first half of the devices uses the first
  --first-device 0 --sequence-base 0
  --resend                connect again when the connection is lost, and send again what was not acknowledged
  --clean                 no persistent session for QoS 2
  --drain-seconds 15      for acknowledgements at the end
  --ack-file PATH --progress-ms 0 --client-prefix load
  --owned                 end when standard input ends
Lines on standard input: "phase NAME" begins a phase, "stop" sends nothing new, "abandon" ends at once.`

/** 0.2 ms is the granularity of the schedule: timers of the event loop have 1 ms. */
const scheduleSliceMs = 0.2

interface Phase {
  readonly name: string
  readonly startUs: number
  readonly sent: number
  readonly acknowledged: number
  readonly ack: LatencyHistogram
}

interface FleetOptions {
  /** Records per second of all devices; 0: as fast as the windows allow. */
  readonly rate: number
  readonly connections: number
  readonly firstDevice: number
  readonly count: number
  readonly topics: readonly string[]
}

class Load {
  readonly #publishers: DevicePublisher[] = []
  readonly #settings: LoadSettings
  readonly #rate: number
  readonly #whole = new LatencyHistogram()
  readonly #phases: Record<string, LoadPhase> = {}
  #phase: Phase = { name: 'all', startUs: 0, sent: 0, acknowledged: 0, ack: new LatencyHistogram() }
  #recent = new LatencyHistogram()
  #recentSent = 0
  #recentAcknowledged = 0
  #sent = 0
  #acknowledged = 0
  #startUs = 0
  #lastAckUs = 0
  #stopping = false

  constructor(settings: LoadSettings, options: FleetOptions) {
    this.#settings = settings
    this.#rate = options.rate
    const { connections, count, topics } = options
    for (let i = 0; i < connections; i++) {
      const share = count === Infinity ? Infinity : Math.floor(count / connections) + (i < count % connections ? 1 : 0)
      const topic = topics[Math.floor(i * topics.length / connections)]!
      const device = { device: options.firstDevice + i, topic, count: share }
      this.#publishers.push(new DevicePublisher(settings, device, this))
    }
  }

  /** Of a publisher: so many records went out for the first time. */
  onSent(count: number): void { this.#sent += count }

  onAcknowledged(sentUs: number, nowUs: number): void {
    this.#acknowledged++
    this.#lastAckUs = nowUs
    const us = nowUs - sentUs
    this.#whole.record(us)
    this.#phase.ack.record(us)
    this.#recent.record(us)
  }

  async connect(): Promise<void> {
    await Promise.all(this.#publishers.map(publisher => publisher.connect()))
    this.#startUs = monotonicUs()
    this.#phase = { ...this.#phase, startUs: this.#startUs }
  }

  /** Resolves when all has been sent and is acknowledged, or nobody can send any more. */
  async run(seconds: number, drainSeconds: number): Promise<void> {
    const start = this.#startUs
    const intervalUs = this.#rate > 0 ? this.#publishers.length / this.#rate * 1e6 : 0
    for (const [i, publisher] of this.#publishers.entries()) {
      publisher.begin(this.#rate > 0 ? start + i / this.#rate * 1e6 : 0, intervalUs)
    }
    const endUs = start + seconds * 1e6
    if (this.#rate > 0) await this.#runSchedule(endUs)
    else await this.#until(() => monotonicUs() >= endUs || this.#publishers.every(publisher => publisher.finished))
    for (const publisher of this.#publishers) publisher.stop()
    const drainUs = monotonicUs() + drainSeconds * 1e6
    await this.#until(() => this.#publishers.every(publisher => publisher.settled) || monotonicUs() >= drainUs)
  }

  /** Sleeps in the kernel between slots of the schedule, since timers are too coarse; looks at sockets each time. */
  async #runSchedule(endUs: number): Promise<void> {
    const cell = new Int32Array(new SharedArrayBuffer(4))
    await new Promise<void>(resolve => {
      const tick = (): void => {
        const nowUs = monotonicUs()
        const ended = nowUs >= endUs || this.#publishers.every(publisher => publisher.finished)
        if (this.#stopping || ended) return resolve()
        for (const publisher of this.#publishers) publisher.fill(Math.min(nowUs, endUs))
        Atomics.wait(cell, 0, 0, scheduleSliceMs)
        setImmediate(tick)
      }
      tick()
    })
  }

  async #until(condition: () => boolean): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setInterval(() => {
        if (!this.#stopping && !condition()) return
        this.#stopping = false
        clearInterval(timer)
        resolve()
      }, 5)
    })
  }

  stop(): void { this.#stopping = true }

  phase(name: string): void {
    this.#endPhase()
    this.#phase = {
      name, startUs: monotonicUs(), sent: this.#sent, acknowledged: this.#acknowledged, ack: new LatencyHistogram()
    }
  }

  #endPhase(): void {
    const { name, startUs, sent, acknowledged, ack } = this.#phase
    const seconds = (monotonicUs() - startUs) / 1e6
    this.#phases[name] = {
      sent: this.#sent - sent, acknowledged: this.#acknowledged - acknowledged, seconds,
      ratePerSecond: Math.round((this.#acknowledged - acknowledged) / seconds), ack: ack.summary()
    }
  }

  progress(): LoadProgress {
    const progress: LoadProgress = {
      kind: 'progress',
      sent: this.#sent - this.#recentSent,
      acknowledged: this.#acknowledged - this.#recentAcknowledged,
      connected: this.#publishers.filter(publisher => publisher.connected).length,
      ack: this.#recent.summary()
    }
    this.#recent = new LatencyHistogram()
    this.#recentSent = this.#sent
    this.#recentAcknowledged = this.#acknowledged
    return progress
  }

  close(): void { for (const publisher of this.#publishers) publisher.close() }

  acks(): AckFile {
    return { qos: this.#settings.qos, devices: this.#publishers.map(publisher => publisher.acks()) }
  }

  result(): LoadResult {
    this.#endPhase()
    const { user, system } = process.cpuUsage()
    const endUs = this.#settings.qos === 0 ? monotonicUs() : this.#lastAckUs
    const seconds = Math.max(0, endUs - this.#startUs) / 1e6
    const sum = (of: (publisher: DevicePublisher) => number): number =>
      this.#publishers.reduce((total, publisher) => total + of(publisher), 0)
    const counted = this.#settings.qos === 0 ? this.#sent : this.#acknowledged
    return {
      kind: 'final',
      connections: this.#publishers.length,
      qos: this.#settings.qos,
      payloadBytes: this.#settings.payloadBytes,
      window: this.#settings.window,
      rate: this.#rate,
      sent: this.#sent,
      acknowledged: this.#acknowledged,
      seconds,
      ratePerSecond: seconds > 0 ? Math.round(counted / seconds) : 0,
      ack: this.#whole.summary(),
      phases: this.#phases,
      reconnects: sum(publisher => publisher.reconnects),
      closed: sum(publisher => publisher.lost ? 1 : 0),
      sessionsLost: sum(publisher => publisher.sessionsLost),
      repeatedSends: sum(publisher => publisher.repeatedSends),
      ackInversions: sum(publisher => publisher.ackInversions),
      bytesOut: sum(publisher => publisher.bytesOut),
      cpuSeconds: (user + system) / 1e6
    }
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      host: { type: 'string', default: '127.0.0.1' },
      port: { type: 'string' },
      connections: { type: 'string', default: '50' },
      count: { type: 'string' },
      seconds: { type: 'string' },
      rate: { type: 'string', default: '0' },
      size: { type: 'string', default: '128' },
      payload: { type: 'string', default: 'json' },
      qos: { type: 'string', default: '1' },
      window: { type: 'string', default: '20' },
      topic: { type: 'string', multiple: true, default: ['devices/fleet/%d/telemetry'] },
      'first-device': { type: 'string', default: '0' },
      'sequence-base': { type: 'string', default: '0' },
      resend: { type: 'boolean', default: false },
      clean: { type: 'boolean', default: false },
      'drain-seconds': { type: 'string', default: '15' },
      'ack-file': { type: 'string' },
      'progress-ms': { type: 'string', default: '0' },
      'client-prefix': { type: 'string', default: 'load' },
      owned: { type: 'boolean', default: false }
    }
  })
  if (values.help === true || values.port === undefined) {
    console.log(help)
    process.exitCode = values.help === true ? 0 : 2
    return
  }
  const qos = Number(values.qos)
  if (qos !== 0 && qos !== 1 && qos !== 2) throw new RangeError(`--qos: expected 0, 1 or 2, got ${values.qos}`)
  if (values.payload !== 'json' && values.payload !== 'incompressible') {
    throw new RangeError(`--payload: expected json or incompressible, got ${values.payload}`)
  }
  const load = new Load({
    host: values.host, port: Number(values.port), qos, window: Number(values.window), payload: values.payload,
    payloadBytes: Number(values.size), resend: values.resend, persistent: qos === 2 && !values.clean,
    clientPrefix: values['client-prefix'], sequenceBase: Number(values['sequence-base'])
  }, {
    rate: Number(values.rate), connections: Number(values.connections), firstDevice: Number(values['first-device']),
    count: values.count === undefined ? Infinity : Number(values.count), topics: values.topic
  })
  const end = (): void => {
    load.close()
    if (values['ack-file'] !== undefined) writeFileSync(values['ack-file'], JSON.stringify(load.acks()))
    // One write, then the end: nothing else holds the process.
    process.stdout.write(JSON.stringify(load.result()) + '\n', () => process.exit(0))
  }
  const commands = createInterface({ input: process.stdin })
  commands.on('line', line => {
    const [command, name] = line.split(' ')
    if (command === 'phase' && name !== undefined) load.phase(name)
    else if (command === 'stop') load.stop()
    else if (command === 'abandon') end()
  })
  commands.on('close', () => { if (values.owned) process.exit(3) })
  process.on('SIGTERM', () => load.stop())
  process.on('SIGINT', () => load.stop())
  await load.connect()
  console.log('{"kind":"connected"}')
  if (Number(values['progress-ms']) > 0) {
    setInterval(() => console.log(JSON.stringify(load.progress())), Number(values['progress-ms']))
  }
  await load.run(values.seconds === undefined ? Infinity : Number(values.seconds), Number(values['drain-seconds']))
  end()
}

if (import.meta.main) await main()
