import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'

/** From here on the system gives ports to whoever asks for any, connections among them (Linux: 32768, if nobody changed it). */
const firstGiven = Number(/^\d+/.exec(readOr('/proc/sys/net/ipv4/ip_local_port_range', '32768'))?.[0])
const firstTried = 10_000

/**
 * A free port that the system gives nobody of its own accord: whoever stops listening on it finds it again. A port that it gave
 * may be another program's, or a connection's, by then.
 */
export async function lastingPort(): Promise<number> {
  for (let tries = firstGiven - firstTried; tries > 0; tries--) {
    const port = firstTried + Math.floor(Math.random() * (firstGiven - firstTried))
    if (await isFree(port)) return port
  }
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.on('error', () => { resolve(false) })
    server.listen({ port, exclusive: true }, () => { server.close(() => { resolve(true) }) })
  })
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return otherwise
  }
}
