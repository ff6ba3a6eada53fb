import { connect } from 'node:net'

/**
 * Connects until a broker is there, publishes one record at QoS 1 and resolves at its PUBACK with the time, by
 * `performance.now()`. Rejects when none came within `withinMs`.
 */
export async function firstPuback(port: number, topic: string, withinMs = 30_000): Promise<number> {
  const deadlineMs = performance.now() + withinMs
  for (;;) {
    const atMs = await attempt(port, topic)
    if (atMs !== undefined) return atMs
    if (performance.now() > deadlineMs) throw new Error(`no PUBACK within ${withinMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

async function attempt(port: number, topic: string): Promise<number | undefined> {
  return await new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('close', () => resolve(undefined))
    const name = Buffer.from(topic)
    const probe = Buffer.from('probe')
    const hello = [0x10, 17, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 0, 0, probe.length, ...probe]
    const publish = [0x32, 2 + name.length + 2 + probe.length, 0, name.length, ...name, 0, 1, ...probe]
    socket.write(Buffer.from([...hello, ...publish]))
    let received = 0
    socket.on('data', (chunk: Buffer) => {
      // CONNACK and PUBACK have four bytes each.
      received += chunk.length
      if (received < 8) return
      resolve(performance.now())
      socket.end(Buffer.from([0xe0, 0]))
    })
  })
}
