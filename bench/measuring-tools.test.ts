import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { Arrivals } from '../test/harness/arrivals.ts'
import { ChaosProxy } from '../test/harness/chaos-proxy.ts'
import { check, isFlawless } from '../test/harness/checker.ts'
import { until } from '../test/harness/daemons.ts'
import { DevicePublisher, type LoadSettings } from '../test/harness/device-publisher.ts'
import { LatencyHistogram } from '../test/harness/latency-histogram.ts'
import type { AckFile, DeviceAcks } from '../test/harness/load-generator.ts'
import { markerBytes, MarkerReader, rewriteMarker, writeMarker } from '../test/harness/marker.ts'
import { LoadProcess } from '../test/harness/measuring-process.ts'
import { PayloadSource } from '../test/harness/payload.ts'
import { goalOf, numberText, reached, spreadOf } from './results.ts'

const markerOf = (device: number, sequence: number, sentUs = 1): Buffer => {
  const bytes = Buffer.alloc(markerBytes)
  writeMarker(bytes, 0, device, sequence, sentUs)
  return bytes
}

describe('markers and payloads', () => {
  it('are read back wherever they are in a payload', () => {
    const reader = new MarkerReader()
    const cases = [[0, 7, 0, 5], [9, 99_999, 2_147_483_647, 1_234_567_890.123], [0, 1, 2, 3]] as const
    for (const [lead, device, sequence, sentUs] of cases) {
      const bytes = Buffer.concat([Buffer.alloc(lead, '~'), markerOf(device, sequence, sentUs), Buffer.from('tail')])
      if (lead > 0) bytes[lead - 1] = 0x20
      expect(reader.read(bytes)).toBe(true)
      expect(reader).toMatchObject({ device, sequence })
      expect(reader.sentUs).toBeCloseTo(sentUs, 2)
    }
    expect(reader.read(Buffer.from('nothing of the kind'))).toBe(false)
  })

  it.each([128, 140, 300, 512])('are JSON of exactly %d bytes whose numbers drift', bytes => {
    const source = new PayloadSource('json', bytes, 42)
    const payload = Buffer.from(source.first)
    const seen = new Set<string>()
    for (let sequence = 0; sequence < 300; sequence++) {
      rewriteMarker(payload, source.markerAt, sequence, sequence)
      source.drift(payload, 0)
      const fields = JSON.parse(payload.toString()) as Record<string, unknown>
      expect(fields['temperature']).toBeTypeOf('number')
      seen.add(JSON.stringify([fields['temperature'], fields['power']]))
    }
    expect(payload.length).toBe(bytes)
    expect(seen.size).toBeGreaterThan(250)
  })

  it('are the same for the same device in every run', () => {
    const [a, b] = [1, 1].map(device => {
      const source = new PayloadSource('incompressible', 64, device)
      source.drift(source.first, 0)
      return source.first
    })
    expect(a).toEqual(b)
    expect(() => new PayloadSource('json', 100, 1)).toThrow(/128/)
  })
})

describe('the latency histogram', () => {
  it('gives quantiles within 2 %, and -1 for nothing', () => {
    const histogram = new LatencyHistogram()
    expect(histogram.summary()).toEqual({ count: 0, p50Ms: -1, p99Ms: -1, p999Ms: -1, maxMs: -1 })
    for (let us = 1; us <= 100_000; us++) histogram.record(us)
    const { p50Ms, p99Ms, maxMs } = histogram.summary()
    expect(p50Ms / 50).toBeCloseTo(1, 1)
    expect(Math.abs(p50Ms / 50 - 1)).toBeLessThan(0.02)
    expect(Math.abs(p99Ms / 99 - 1)).toBeLessThan(0.02)
    expect(maxMs).toBe(100)
  })
})

describe('the checker', () => {
  const acks = (...devices: Partial<DeviceAcks>[]): AckFile => ({
    qos: 1,
    devices: devices.map(device => ({ device: 1, first: 0, next: 10, unacknowledged: [], repeated: [], ...device }))
  })
  const arrivals = (...sequences: readonly number[]) => {
    const seen = new Arrivals()
    for (const sequence of sequences) seen.add(markerOf(1, sequence))
    return { devices: seen.devices(), gaps: [] }
  }
  const all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

  it('finds nothing wrong with everything once and in order', () => {
    const verdict = check([acks({})], arrivals(...all))
    const nothing = { lost: 0, twice: 0, repeatedBySender: 0, outOfOrder: 0, unknown: 0, examples: [] }
    expect(verdict).toMatchObject({ acknowledged: 10, inCloud: 10, ...nothing })
    expect(isFlawless(verdict)).toBe(true)
  })

  it('tells a lost beginning, middle and end apart', () => {
    expect(check([acks({})], arrivals(2, 3, 4, 7)).lostBy).toEqual({ prefix: 2, middle: 2, tail: 2 })
    expect(check([acks({})], { devices: [], gaps: [] })).toMatchObject({ lost: 10, lostBy: { tail: 10 } })
  })

  it('does not miss what nobody acknowledged', () => {
    const verdict = check([acks({ unacknowledged: [[8, 9]] })], arrivals(...all.slice(0, 9)))
    expect(verdict).toMatchObject({ acknowledged: 8, inCloud: 9, lost: 0, unknown: 0 })
  })

  it('counts what came twice, unless its sender had sent it again', () => {
    expect(check([acks({})], arrivals(...all, 9, 9))).toMatchObject({ twice: 2, repeatedBySender: 0 })
    expect(check([acks({ repeated: [[8, 9]] })], arrivals(...all, 9, 9))).toMatchObject({ twice: 1, repeatedBySender: 1 })
  })

  it('counts first arrivals that are late, and records that nobody sent', () => {
    expect(check([acks({})], arrivals(0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9))).toMatchObject({ outOfOrder: 1, twice: 1 })
    expect(check([acks({})], arrivals(...all, 10))).toMatchObject({ unknown: 1 })
    expect(check([acks({ first: 0, next: 5 }), acks({ first: 5, next: 10 })], arrivals(...all)).unknown).toBe(0)
  })
})

/** An MQTT broker in a few lines that keeps what it got. */
class ScriptedBroker implements AsyncDisposable {
  readonly packets: { readonly first: number, readonly sequence: number }[] = []
  /** Whether it answers a packet; the answers are what a broker sends. */
  answers: (first: number) => boolean = () => true
  sessionPresent = false
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  private constructor(server: Server) {
    this.#server = server
    server.on('connection', socket => { this.#serve(socket) })
  }

  static async open(): Promise<ScriptedBroker> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new ScriptedBroker(server)
  }

  get port(): number { return (this.#server.address() as { port: number }).port }
  drop(): void { for (const socket of this.#sockets) socket.resetAndDestroy() }

  async [Symbol.asyncDispose](): Promise<void> {
    this.drop()
    const closed = once(this.#server, 'close')
    this.#server.close()
    await closed
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
    let rest: Buffer = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk])
      for (;;) {
        const long = (rest[1] ?? 0) >= 128
        const head = long ? 3 : 2
        const end = head + (long ? (rest[1]! & 127) + rest[2]! * 128 : rest[1] ?? 0)
        if (rest.length < head || rest.length < end) return
        this.#handle(socket, rest.subarray(0, end), head)
        rest = rest.subarray(end)
      }
    })
  }

  #handle(socket: Socket, packet: Buffer, head: number): void {
    const first = packet[0]!
    const type = first >> 4
    if (type === 1) {
      socket.write(Buffer.from([0x20, 2, this.sessionPresent ? 1 : 0, 0]))
      return
    }
    const reader = new MarkerReader()
    reader.read(packet)
    this.packets.push({ first, sequence: type === 3 ? reader.sequence : -1 })
    const idAt = type === 3 ? head + 2 + packet.readUInt16BE(head) : head
    const answer = type === 3 ? (first & 6) === 2 ? 0x40 : 0x50 : 0x70
    // Byte by byte: the other side must put packets together.
    if (!this.answers(first)) return
    for (const byte of [answer, 2, packet[idAt]!, packet[idAt + 1]!]) socket.write(Buffer.from([byte]))
  }
}

describe('a publisher of the load generator', () => {
  const settings: LoadSettings = {
    host: '127.0.0.1', port: 0, qos: 1, window: 4, payload: 'json', payloadBytes: 128, resend: true, persistent: false,
    clientPrefix: 'test', sequenceBase: 100
  }
  const host = { onSent() {}, onAcknowledged() {} }
  const publishers: DevicePublisher[] = []
  afterEach(() => { for (const publisher of publishers.splice(0)) publisher.close() })
  const publish = async (port: number, options: Partial<LoadSettings>, count = Infinity): Promise<DevicePublisher> => {
    const device = { device: 3, topic: 'devices/t/%d/telemetry', count }
    const publisher = new DevicePublisher({ ...settings, port, ...options }, device, host)
    publishers.push(publisher)
    await publisher.connect()
    publisher.begin(0, 0)
    return publisher
  }

  it.each([1, 2] as const)('sends every sequence once and in order with QoS %d', async qos => {
    await using broker = await ScriptedBroker.open()
    const publisher = await publish(broker.port, { qos }, 11)
    await until('all is acknowledged', () => publisher.finished && publisher.settled)
    const published = broker.packets.filter(packet => packet.first >> 4 === 3)
    expect(published.map(packet => packet.sequence)).toEqual(Array.from({ length: 11 }, (_, i) => 100 + i))
    expect(published.every(packet => packet.first === (0x30 | qos << 1))).toBe(true)
    expect(broker.packets.length).toBe(qos === 2 ? 22 : 11)
    expect(publisher.acks()).toEqual({ device: 3, first: 100, next: 111, unacknowledged: [], repeated: [] })
  })

  it('never has more than its window unacknowledged', async () => {
    await using broker = await ScriptedBroker.open()
    broker.answers = () => false
    const publisher = await publish(broker.port, {})
    await until('the window is full', () => broker.packets.length === 4)
    expect(publisher.acks()).toMatchObject({ next: 104, unacknowledged: [[100, 103]] })
  })

  it('sends again in order, marked as repeated, what QoS 1 did not acknowledge', async () => {
    await using broker = await ScriptedBroker.open()
    broker.answers = first => first >> 4 !== 3 || broker.packets.length <= 2
    const publisher = await publish(broker.port, {}, 6)
    await until('two are acknowledged', () => broker.packets.length === 6)
    broker.answers = () => true
    broker.drop()
    await until('all is acknowledged', () => publisher.finished && publisher.settled)
    expect(broker.packets.slice(6).map(packet => [packet.first, packet.sequence]))
      .toEqual([[0x3a, 102], [0x3a, 103], [0x3a, 104], [0x3a, 105]])
    expect(publisher.acks()).toMatchObject({ unacknowledged: [], repeated: [[102, 105]] })
    expect(publisher).toMatchObject({ reconnects: 1, repeatedSends: 4 })
  })

  it('goes on with PUBREL or PUBLISH where a QoS 2 session was left, and repeats nothing', async () => {
    await using broker = await ScriptedBroker.open()
    broker.sessionPresent = true
    broker.answers = first => first >> 4 === 3 && broker.packets.length <= 2
    const publisher = await publish(broker.port, { qos: 2, persistent: true }, 4)
    await until('two are released', () => broker.packets.filter(packet => packet.first >> 4 === 6).length === 2)
    const before = broker.packets.length
    broker.answers = () => true
    broker.drop()
    await until('all is complete', () => publisher.finished && publisher.settled)
    const again = broker.packets.slice(before, before + 4).map(packet => packet.first >> 4)
    expect(again).toEqual([6, 6, 3, 3])
    expect(publisher.acks()).toMatchObject({ unacknowledged: [], repeated: [] })
    expect(publisher.sessionsLost).toBe(0)
  })
})

describe('the load generator', () => {
  it('reports one line, and a file that says what was acknowledged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-load-'))
    const sinkPath = fileURLToPath(new URL('acking-sink.ts', import.meta.url))
    const sink = spawn(process.execPath, [sinkPath], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      const [printed] = await once(sink.stdout, 'data') as [Buffer]
      const ackFile = join(folder, 'acks.json')
      const port = Number(printed.toString())
      await using load = await LoadProcess.start({ port, connections: 5, count: 1003, ackFile, rate: 20_000 })
      load.phase('second')
      const result = await load.result
      expect(result).toMatchObject({ sent: 1003, acknowledged: 1003, ackInversions: 0, repeatedSends: 0, closed: 0 })
      expect(result.ack.count).toBe(1003)
      expect(result.phases['all']!.acknowledged + result.phases['second']!.acknowledged).toBe(1003)
      const { devices } = JSON.parse(await readFile(ackFile, 'utf8')) as AckFile
      expect(devices.map(device => device.next)).toEqual([201, 201, 201, 200, 200])
    } finally {
      sink.kill()
      await rm(folder, { recursive: true, force: true })
    }
  })
})

describe('the proxy', () => {
  /** A server that sends back what it gets. */
  async function echoing(): Promise<{ port: number } & AsyncDisposable> {
    const sockets = new Set<Socket>()
    const server = createServer(socket => {
      sockets.add(socket)
      socket.on('error', () => {}).pipe(socket)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      port: (server.address() as { port: number }).port,
      async [Symbol.asyncDispose]() {
        for (const socket of sockets) socket.destroy()
        const closed = once(server, 'close')
        server.close()
        await closed
      }
    }
  }

  /** What came back, and whether the connection has ended. */
  function dial(port: number): { socket: Socket, received: () => Buffer, ended: () => boolean } {
    const chunks: Buffer[] = []
    let ended = false
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {}).on('data', (chunk: Buffer) => chunks.push(chunk)).on('close', () => { ended = true })
    return { socket, received: () => Buffer.concat(chunks), ended: () => ended }
  }

  const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i * 7 & 255))

  it.each([
    ['as they come', {}], ['late', { delayMs: 20, jitterMs: 10 }], ['slowly', { bytesPerSecond: 1_000_000 }],
    ['in slices', { sliceBytes: 1000 }], ['in every way', { delayMs: 5, bytesPerSecond: 2_000_000, sliceBytes: 777 }]
  ])('passes bytes on unchanged: %s', async (_how, shape) => {
    await using far = await echoing()
    await using proxy = await ChaosProxy.open(() => far.port)
    proxy.shape = shape
    const { socket, received } = dial(proxy.port)
    const startMs = performance.now()
    socket.write(bytes)
    await until('all came back', () => received().length === bytes.length)
    expect(received().equals(bytes)).toBe(true)
    expect(proxy.bytes).toEqual({ up: bytes.length, down: bytes.length })
    const tookMs = performance.now() - startMs
    if ('delayMs' in shape) expect(tookMs).toBeGreaterThan(2 * shape.delayMs)
    if ('bytesPerSecond' in shape) expect(tookMs).toBeGreaterThan(800 * bytes.length / shape.bytesPerSecond)
    socket.destroy()
  })

  it('cuts in the middle, refuses while it is cut, and heals', async () => {
    await using far = await echoing()
    await using proxy = await ChaosProxy.open(() => far.port)
    proxy.resetAfter(60_000)
    const first = dial(proxy.port)
    first.socket.write(bytes)
    await until('the connection ends', first.ended)
    expect(proxy.bytes.up).toBe(60_000)
    proxy.cut()
    const second = dial(proxy.port)
    await until('it is refused', second.ended)
    proxy.heal()
    const third = dial(proxy.port)
    third.socket.write('hello')
    await until('it passes', () => third.received().toString() === 'hello')
    third.socket.destroy()
  })

  it('holds everything while it is paused, and loses nothing', async () => {
    await using far = await echoing()
    await using proxy = await ChaosProxy.open(() => far.port)
    const { socket, received, ended } = dial(proxy.port)
    socket.write('a')
    await until('it passes', () => received().length === 1)
    proxy.pause()
    socket.write(bytes)
    const other = dial(proxy.port)
    await until('another connection is taken', () => proxy.connections === 2)
    expect(received().length).toBe(1)
    expect(ended()).toBe(false)
    proxy.heal()
    await until('the rest came', () => received().length === bytes.length + 1)
    socket.destroy()
    other.socket.destroy()
  })

  it('swallows one direction, and resets the connection that lost bytes when it heals', async () => {
    await using far = await echoing()
    await using proxy = await ChaosProxy.open(() => far.port)
    const { socket, received, ended } = dial(proxy.port)
    socket.write('a')
    await until('it passes', () => received().length === 1)
    proxy.blackhole('down')
    socket.write('bcd')
    await until('it went up', () => proxy.bytes.up === 4)
    await until('the answer was swallowed', () => proxy.swallowed === 3)
    expect(received().length).toBe(1)
    expect(ended()).toBe(false)
    proxy.heal()
    await until('the connection ends', ended)
  })
})

describe('results', () => {
  it('are medians with their spread, compared with what is good', () => {
    const rounds = [3, 1, 2].map(value => ({ values: { x: value } }))
    expect(spreadOf(rounds, 'x')).toEqual({ median: 2, low: 1, high: 3, rounds: 3 })
    expect(spreadOf([...rounds, { values: {} }], 'y')).toBeUndefined()
    const column = { title: '', unit: 'ms', atMost: 2 }
    expect([reached(column, 2), reached(column, 2.1), reached({ title: '', unit: '' }, 1)]).toEqual(['yes', 'no', ''])
    expect([goalOf(column), numberText(1234.5, '/s'), numberText(0.25, '')]).toEqual(['≤ 2 ms', '1,235/s', '0.25'])
  })
})
