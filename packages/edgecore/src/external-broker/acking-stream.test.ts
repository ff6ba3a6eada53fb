import { Duplex } from 'node:stream'
import { SeededRandom } from '@holdfast/runtime'
import { expect, test } from 'vitest'
import { packet, publishPacket, until } from '../testing/broker-harness.ts'
import { AckingStream } from './acking-stream.ts'
import type { PassedOver } from './acking-stream.ts'
import { broadest, isCovered } from './filter-cover.ts'

/** A socket that the test plays. */
class PlayedSocket extends Duplex {
  readonly sent: Buffer[] = []
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.sent.push(Buffer.from(chunk))
    done()
  }
}

interface Played {
  readonly socket: PlayedSocket
  readonly stream: AckingStream
  readonly received: Buffer[]
  readonly passed: PassedOver[]
}

function play(packetBytesMax = 1000): Played {
  const socket = new PlayedSocket()
  const passed: PassedOver[] = []
  const stream = new AckingStream(socket, { packetBytesMax }, each => { passed.push(each) })
  const received: Buffer[] = []
  stream.on('data', (bytes: Buffer) => received.push(bytes))
  stream.on('error', () => {})
  return { socket, stream, received, passed }
}

/** The same bytes in pieces of 1 to 7. */
function pieces(bytes: Buffer, random: SeededRandom): Buffer[] {
  const cut: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const length = random.integer(1, 7)
    cut.push(bytes.subarray(at, at + length))
    at += length
  }
  return cut
}

const puback = (id: number): Buffer => Buffer.from([0x40, 2, id >> 8, id & 255])

test('whatever the pieces, messages in bounds come through, and longer ones are passed over', async () => {
  const random = new SeededRandom(Number(process.env['SEED'] ?? 7))
  for (let round = 0; round < 50; round++) {
    const { socket, received, passed } = play()
    const small = [publishPacket('a', 'x'.repeat(300), 1, 1), Buffer.from([0xd0, 0]), publishPacket('b', '', 0)]
    const large = publishPacket('long/topic', 'y'.repeat(5000), 1, 0x1234)
    const stream = Buffer.concat([small[0]!, large, small[1]!, publishPacket('long/other', 'z'.repeat(1500), 0), small[2]!])
    for (const piece of pieces(stream, random)) socket.push(piece)
    const expected = Buffer.concat(small)
    await until(() => Buffer.concat(received).length === expected.length && passed.length === 2, 'all has come')
    expect(Buffer.concat(received)).toEqual(expected)
    expect(passed.map(({ topic, messageId }) => [topic, messageId])).toEqual([['long/topic', 0x1234], ['long/other', undefined]])
  }
})

test('whatever the pieces, PUBACKs of the library do not go out, everything else does, and ours never within a packet', async () => {
  const random = new SeededRandom(Number(process.env['SEED'] ?? 8))
  for (let round = 0; round < 50; round++) {
    const { socket, stream } = play()
    const others = [packet(0x10, 'MQTT', Buffer.from([4, 0, 0, 30]), 'id'), publishPacket('a', 'x'.repeat(200), 1, 9), Buffer.from([0xc0, 0])]
    const written = Buffer.concat([others[0]!, puback(1), puback(2), others[1]!, puback(3), others[2]!])
    let id = 100
    for (const piece of pieces(written, random)) {
      stream.write(piece)
      if (random.chance(0.2)) stream.acknowledge(id++)
      await Promise.resolve()
    }
    const length = Buffer.concat(others).length + 4 * (id - 100)
    await until(() => Buffer.concat(socket.sent).length === length, 'all is sent')
    let bytes = Buffer.concat(socket.sent)
    const acks: number[] = []
    const rest: Buffer[] = []
    while (bytes.length > 0) {
      // The longest packet here has two bytes of length.
      const [, low = 0, high = 0] = bytes
      const size = low < 128 ? 2 + low : 3 + (low & 127) + high * 128
      if (bytes[0] === 0x40) acks.push(bytes.readUInt16BE(2))
      else rest.push(bytes.subarray(0, size))
      bytes = bytes.subarray(size)
    }
    expect(Buffer.concat(rest)).toEqual(Buffer.concat(others))
    expect(acks).toEqual(Array.from({ length: id - 100 }, (_, i) => 100 + i))
  }
})

test.each([
  ['a length without an end', Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 0xff])],
  ['a topic longer than its packet', Buffer.concat([Buffer.from([0x32, 0xd0, 0x0f]), Buffer.from([0xff, 0xff]), Buffer.alloc(1998)])],
  ['a long packet that is no message', Buffer.concat([Buffer.from([0x90, 0xd0, 0x0f]), Buffer.alloc(2000)])]
])('%s ends the connection', async (_what, bytes) => {
  const { socket, stream } = play()
  socket.push(bytes)
  await until(() => stream.destroyed && socket.destroyed, 'ended')
})

test.each([
  ['a/b', 'a/b', true], ['a/b', 'a/+', true], ['a/b', '+/b', true], ['a/b', 'a/#', true], ['a', 'a/#', true], ['a/+', 'a/#', true], ['a/#', 'a/#', true],
  ['a/#', 'a/+', false], ['a/+', 'a/b', false], ['a/b/c', 'a/+', false], ['a', 'a/+', false], ['$hw/a', '#', false], ['$hw/a', '+/a', false],
  ['$hw/a', '$hw/#', true], ['+/a', '#', true], ['+/user/#', '+/user/#', true]
])('every topic of %s is one of %s: %s', (filter, by, expected) => {
  expect(isCovered(filter, by)).toBe(expected)
})

test('of filters that cover each other the broadest stays', () => {
  expect([...broadest(['a/b', 'a/+', 'a/#', 'c', '$hw/x', '#', 'a/b'])].toSorted()).toEqual(['#', '$hw/x'])
  expect([...broadest(['a/+/c', 'a/b/+'])]).toEqual(['a/+/c', 'a/b/+'])
})
