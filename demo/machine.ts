// Publishes what this machine is doing, as five devices, with an ordinary MQTT client at QoS 1, a process of its own:
// node demo/machine.ts --url mqtt://… --ack-file PATH. Speaks as the load generator does: "phase NAME" and "stop" on
// standard input, lines of JSON on standard output; it ends when standard input does.
import { readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { cpus, freemem, loadavg, networkInterfaces, tmpdir, totalmem } from 'node:os'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { connectAsync, type MqttClient } from 'mqtt'
import { LatencyHistogram } from '../test/harness/latency-histogram.ts'
import type { AckFile, DeviceAcks } from '../test/harness/load-generator.ts'
import { markerBytes, MarkerReader, monotonicUs, writeMarker } from '../test/harness/marker.ts'

/** The devices have these numbers in the markers of their records, from the first one on. */
export const machineFirstDevice = 90_000

const sampleMs = 100

/** What a device last measured. */
type Reading = Readonly<Record<string, number>>

/** Text of a file that only Linux has; '' elsewhere. */
const procText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

const rounded = (value: number): number => Math.round(value * 1000) / 1000

/** Each device by its name, and how it measures. */
export function machineDevices(): Readonly<Record<string, () => Reading>> {
  let before = cpuTimes()
  return {
    cpu: () => {
      const now = cpuTimes()
      const share = (key: 'user' | 'system'): number => rounded((now[key] - before[key]) / Math.max(1, now.total - before.total))
      const reading = { cores: now.cores, user: share('user'), system: share('system') }
      before = now
      return reading
    },
    memory: () => ({ totalBytes: totalmem(), freeBytes: freemem() }),
    load: () => {
      const [one = 0, five = 0, fifteen = 0] = loadavg()
      return { one: rounded(one), five: rounded(five), fifteen: rounded(fifteen) }
    },
    disk: () => {
      const { bsize, blocks, bavail } = statfsSync(tmpdir())
      return { totalBytes: bsize * blocks, freeBytes: bsize * bavail }
    },
    network: () => {
      const interfaces = Object.keys(networkInterfaces()).length
      const lines = procText('/proc/net/dev').split('\n').slice(2)
        .map(line => line.trim().split(/[:\s]+/)).filter(line => line.length > 9)
      const sum = (column: number): number => lines.reduce((total, line) => total + Number(line[column]), 0)
      return { interfaces, receivedBytes: sum(1), sentBytes: sum(9) }
    }
  }
}

function cpuTimes(): { cores: number, user: number, system: number, total: number } {
  const times = { cores: 0, user: 0, system: 0, total: 0 }
  for (const { times: { user, nice, sys, idle, irq } } of cpus()) {
    times.cores++
    times.user += user + nice
    times.system += sys + irq
    times.total += user + nice + sys + idle + irq
  }
  return times
}

/** One device: numbers its readings and knows which of them were acknowledged. */
class MachineDevice {
  readonly topic: string
  next = 0
  readonly #number: number
  /** Sequences that are not acknowledged, each with how often it was sent. */
  readonly #pending = new Map<number, number>()
  readonly #repeated: [number, number][] = []

  constructor(name: string, number: number) {
    this.topic = `devices/machine/${name}/telemetry`
    this.#number = number
  }

  /** `measuredUs` is when the reading was taken, of the machine's monotonic clock. */
  publish(client: MqttClient, reading: Reading, measuredUs: number, onAcknowledged: (us: number) => void): void {
    const sequence = this.next++
    this.#pending.set(sequence, 0)
    const payload = Buffer.from(`{"m":"${' '.repeat(markerBytes)}",${JSON.stringify(reading).slice(1)}`)
    writeMarker(payload, 6, this.#number, sequence, measuredUs)
    client.publish(this.topic, payload, { qos: 1 }, error => {
      if (error) return
      this.#pending.delete(sequence)
      onAcknowledged(monotonicUs() - measuredUs)
    })
  }

  /** The client sends it, for the first time or again. */
  sent(sequence: number): void {
    const times = this.#pending.get(sequence) ?? 0
    this.#pending.set(sequence, times + 1)
    if (times > 0) this.#repeated.push([sequence, sequence])
  }

  get settled(): boolean { return this.#pending.size === 0 }

  acks(): DeviceAcks {
    const unacknowledged = [...this.#pending.keys()].map((sequence): [number, number] => [sequence, sequence])
    return { device: this.#number, first: 0, next: this.next, unacknowledged, repeated: this.#repeated }
  }

  get repeatedSends(): number { return this.#repeated.length }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'url': { type: 'string' }, 'ack-file': { type: 'string' }, 'progress-ms': { type: 'string', default: '250' }
    }
  })
  const measures = machineDevices()
  const devices = Object.entries(measures).map(([name, measure], i) =>
    ({ device: new MachineDevice(name, machineFirstDevice + i), measure }))
  const whole = new LatencyHistogram()
  const phases: Record<string, LatencyHistogram> = {}
  let phase = new LatencyHistogram()
  let recent = new LatencyHistogram()
  let acknowledged = 0
  let reported = { sent: 0, acknowledged: 0 }
  const sent = (): number => devices.reduce((total, { device }) => total + device.next, 0)
  const client = await connectAsync(values.url!, { clientId: 'machine', reconnectPeriod: 50, connectTimeout: 2000 })
  client.on('error', () => undefined)
  let reconnects = 0
  // The client says that it is connected again when all that it had to repeat is acknowledged; what is new waits for that.
  let ready = true
  let waiting: (() => void)[] = []
  client.on('close', () => { ready = false })
  client.on('connect', () => {
    reconnects++
    ready = true
    for (const publish of waiting) publish()
    waiting = []
  })
  const marker = new MarkerReader()
  client.on('packetsend', packet => {
    if (packet.cmd !== 'publish' || !marker.read(packet.payload as Buffer)) return
    devices[marker.device - machineFirstDevice]!.device.sent(marker.sequence)
  })
  const print = (line: object): void => console.log(JSON.stringify(line))
  print({ kind: 'connected' })
  const sampling = setInterval(() => {
    for (const { device, measure } of devices) {
      const reading = measure()
      const measuredUs = monotonicUs()
      const publish = (): void => device.publish(client, reading, measuredUs, us => {
        acknowledged++
        whole.record(us)
        phase.record(us)
        recent.record(us)
      })
      if (ready) publish()
      else waiting.push(publish)
    }
  }, sampleMs)
  setInterval(() => {
    const now = { sent: sent(), acknowledged }
    print({
      kind: 'progress', sent: now.sent - reported.sent, acknowledged: now.acknowledged - reported.acknowledged,
      connected: client.connected ? 1 : 0, ack: recent.summary()
    })
    recent = new LatencyHistogram()
    reported = now
  }, Number(values['progress-ms']))
  const end = (): void => {
    const acks: AckFile = { qos: 1, devices: devices.map(({ device }) => device.acks()) }
    writeFileSync(values['ack-file']!, JSON.stringify(acks))
    const result = {
      kind: 'final', sent: sent(), acknowledged, reconnects,
      repeatedSends: devices.reduce((total, { device }) => total + device.repeatedSends, 0),
      ack: whole.summary(),
      phases: Object.fromEntries(Object.entries(phases).map(([name, histogram]) => [name, { ack: histogram.summary() }]))
    }
    process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0))
  }
  createInterface({ input: process.stdin }).on('line', line => {
    const [command, name] = line.split(' ')
    if (command === 'phase' && name !== undefined) phases[name] = phase = new LatencyHistogram()
    if (command !== 'stop') return
    clearInterval(sampling)
    const deadlineMs = performance.now() + 10_000
    setInterval(() => {
      if ((waiting.length === 0 && devices.every(({ device }) => device.settled)) || performance.now() > deadlineMs) end()
    }, 10)
  }).on('close', () => process.exit(3))
}

if (import.meta.main) await main()
