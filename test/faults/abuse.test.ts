import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import type { Daemon } from '../harness/daemons.ts'
import { drained, outboxOf, recordsOf, until } from '../harness/daemons.ts'
import { packet } from '../harness/publisher.ts'
import { report } from './fault-report.ts'
import { FaultSystem, metricOf } from './fault-system.ts'

const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length >> 8, value.length & 255]), Buffer.from(value)])
const hello = (id: string, clean = true): Buffer =>
  packet(0x10, Buffer.concat([text('MQTT'), Buffer.from([4, clean ? 2 : 0, 0, 0]), text(id)]))
const publish = (qos: number, id: number, topic: string, payload: string, dup = false): Buffer =>
  packet(0x30 | qos << 1 | (dup ? 8 : 0), Buffer.concat([text(topic), Buffer.from([id >> 8, id & 255]), Buffer.from(payload)]))

interface Raw { readonly socket: Socket, readonly received: () => Buffer, readonly closed: () => boolean }

function raw(edge: Daemon): Raw {
  const { port, hostname } = new URL(edge.endpoints.mqtt!)
  const socket = connect(Number(port), hostname)
  let received = Buffer.alloc(0)
  let closed = false
  socket.on('data', chunk => { received = Buffer.concat([received, chunk]) })
  socket.on('error', () => {})
  socket.on('close', () => { closed = true })
  return { socket, received: () => received, closed: () => closed }
}

const topic = 'devices/shop/rude/telemetry'
/** What is sent, each on a connection of its own that has to be closed for it. */
const abuses: Readonly<Record<string, readonly Buffer[]>> = {
  'PUBLISH of a declared 128 MiB': [hello('a'), Buffer.from([0x32, 0xff, 0xff, 0xff, 0x3f]), Buffer.alloc(1024 * 1024)],
  'PUBLISH above packetBytesMax': [hello('b'), packet(0x32, Buffer.alloc(400 * 1024))],
  'remaining length of five bytes': [hello('c'), Buffer.from([0x32, 0xff, 0xff, 0xff, 0xff, 0x01])],
  'PUBLISH before CONNECT': [publish(1, 1, topic, 'early')],
  'CONNECT twice': [hello('d'), hello('d')],
  'topic that is empty': [hello('e'), publish(1, 1, '', 'nowhere')],
  'topic with a wildcard': [hello('f'), publish(1, 1, 'devices/+/rude/telemetry', 'everywhere')],
  'topic longer than its packet': [hello('g'), packet(0x32, Buffer.from([0xff, 0xff, 0x61]))],
  'QoS 3': [hello('h'), publish(3, 1, topic, 'three')],
  'noise': [Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919 + 13) & 255))]
}

describe('abuse over raw MQTT', () => {
  it('closes the connection that does it, before anything is allocated, and nobody else is disturbed', async context => {
    await using system = await FaultSystem.start()
    system.run()
    await system.progress(20)
    const before = await metricOf(system.edge, 'process_resident_memory_bytes')
    for (const [what, packets] of Object.entries(abuses)) {
      const peers = Array.from({ length: 20 }, () => raw(system.edge))
      for (const { socket } of peers) for (const bytes of packets) socket.write(bytes)
      await until(`connections closed for: ${what}`, () => peers.every(peer => peer.closed()))
      await system.progress(5)
    }
    const grown = await metricOf(system.edge, 'process_resident_memory_bytes') - before
    expect(grown).toBeLessThan(128 * 1024 * 1024)
    await system.settleFlawless('beside abuse')
    expect((await recordsOf(system.cloud.endpoints.ops!, 'device=shop/rude')).length).toBe(0)
    report(context, {
      rows: [20], fault: 'malformed and oversized MQTT', injection: `raw sockets, 20 at a time: ${Object.keys(abuses).join('; ')}`,
      rounds: 1, outcome: `every connection closed, no record of it, resident memory ${Math.max(0, Math.round(grown / 2 ** 20))} MiB more than before, publishers beside it went on`
    })
  })

  it('with every packet id in flight and no acknowledgement read holds its bounds, and each publish has one effect', async context => {
    await using system = await FaultSystem.start({ publishers: [{ name: 'meter', qos: 1, window: 10, payloadBytesMax: 100 }] })
    const peer = raw(system.edge)
    peer.socket.write(hello('rude'))
    peer.socket.pause()
    for (let id = 1; id <= 65_535; id++) peer.socket.write(publish(1, id, topic, String(id)))
    system.run()
    await system.progress(50)
    peer.socket.resume()
    await until('every publish is acknowledged', () => peer.received().length === 4 + 4 * 65_535, 60_000)
    for (const publisher of system.publishers) await publisher.pause()
    await drained(system.edge)
    const payloads = (await recordsOf(system.cloud.endpoints.ops!, 'device=shop/rude')).map(line => line.payload)
    expect(payloads).toEqual(Array.from({ length: 65_535 }, (_, i) => String(i + 1)))
    peer.socket.destroy()
    report(context, {
      rows: [20], fault: '65,535 publishes in flight, acknowledgements not read', injection: 'raw socket', rounds: 1,
      outcome: 'acknowledged in order once read; each there once, in order; the publisher beside it went on'
    })
  })

  it('a QoS 2 publish that comes again under its id has one effect, also over a new connection', async context => {
    await using system = await FaultSystem.start({ publishers: [] })
    for (let turn = 0; turn < 2; turn++) {
      const peer = raw(system.edge)
      peer.socket.write(Buffer.concat([hello('twice', false), ...Array.from({ length: 5 }, (_, i) => publish(2, 7, topic, 'once', turn + i > 0))]))
      await until('every copy is answered', () => peer.received().length >= 4 + 5 * 4)
      peer.socket.destroy()
    }
    const peer = raw(system.edge)
    peer.socket.write(Buffer.concat([hello('twice', false), packet(0x62, Buffer.from([0, 7])), publish(2, 7, topic, 'again')]))
    await until('released and used again', () => peer.received().length >= 12)
    peer.socket.destroy()
    await until('drained', async () => (await outboxOf(system.edge)).every(lane => lane.records === 0))
    expect((await recordsOf(system.cloud.endpoints.ops!)).map(line => line.payload)).toEqual(['once', 'again'])
    report(context, {
      rows: [20, 36], fault: 'QoS 2 publish repeated ten times', injection: 'raw sockets, two connections of one session', rounds: 1,
      outcome: 'one effect; after PUBREL the id is free for a new one'
    })
  })
})
