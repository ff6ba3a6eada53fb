// A broker that does nothing but acknowledge: what the load generator can do at most. Prints its port.
import { createServer } from 'node:net'

const server = createServer(socket => {
  let rest: Buffer = Buffer.alloc(0)
  let session = false
  socket.setNoDelay(true)
  socket.on('error', () => {})
  socket.on('data', (chunk: Buffer) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const acks = Buffer.allocUnsafe(bytes.length)
    let acked = 0
    let at = 0
    for (;;) {
      let length = 0
      let shift = 0
      let body = at + 1
      let digit = 128
      while (digit >= 128 && body < bytes.length) {
        digit = bytes[body++]!
        length += (digit & 127) << shift
        shift += 7
      }
      if (digit >= 128 || body + length > bytes.length) break
      const first = bytes[at]!
      const answer = answerTo(first)
      if (answer === 0x20) {
        acked = acks.writeUInt32BE(session ? 0x2002_0100 : 0x2002_0000, acked)
        session = true
      } else if (answer !== 0) {
        const idAt = first >> 4 === 3 ? body + 2 + bytes.readUInt16BE(body) : body
        acks[acked] = answer
        acks[acked + 1] = 2
        acks[acked + 2] = bytes[idAt]!
        acks[acked + 3] = bytes[idAt + 1]!
        acked += 4
      }
      at = body + length
    }
    rest = at === bytes.length ? Buffer.alloc(0) : bytes.subarray(at)
    if (acked > 0) socket.write(acks.subarray(0, acked))
  })
})
server.listen(0, '127.0.0.1', () => console.log((server.address() as { port: number }).port))
process.stdin.resume().on('end', () => process.exit(0))

/** First byte of the answer to a packet with this first byte: CONNACK, PUBACK, PUBREC, PUBCOMP, or none. */
function answerTo(first: number): number {
  switch (first >> 4) {
    case 1: return 0x20
    case 3: return [0, 0x40, 0x50, 0][(first >> 1) & 3]!
    case 6: return 0x70
    default: return 0
  }
}
