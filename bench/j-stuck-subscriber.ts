import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { MeasuredSystem } from '../test/harness/system.ts'
import { pause, repeat, round3, type BenchRow } from './bench-row.ts'

type Key = 'aloneP50' | 'aloneP99' | 'besideP50' | 'besideP99' | 'ratio'

const slowBytesPerSecond = 1000

/** Subscribes to `#` at QoS 1 and then reads nothing, or a little each second. */
function subscribe(port: number, name: string, bytesPerSecond: number): Socket {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  const id = Buffer.from(name)
  socket.write(Buffer.from([0x10, 12 + id.length, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 0, 0, id.length, ...id]))
  socket.write(Buffer.from([0x82, 6, 0, 1, 0, 1, 0x23, 1]))
  socket.pause()
  if (bytesPerSecond > 0) {
    const reading = setInterval(() => { socket.read(bytesPerSecond) }, 1000)
    socket.on('close', () => { clearInterval(reading) })
  }
  return socket
}

/** One stuck and one slow subscriber. */
export const stuckSubscriber: BenchRow<Key> = {
  id: 'j',
  question: 'What do a subscriber that reads nothing and one that reads 1 kB/s do to 50 publishers?',
  how: 'PUBACK latency of 50 publishers at 5 k/s, open loop, 4 s after 1 s of warm-up, without and with two '
    + 'subscribers to `#` at QoS 1, who come back at once when they are dropped; one after the other in every round.',
  columns: {
    aloneP50: { title: 'alone: PUBACK p50', unit: 'ms' },
    aloneP99: { title: 'alone: PUBACK p99', unit: 'ms' },
    besideP50: { title: 'beside them: PUBACK p50', unit: 'ms' },
    besideP99: { title: 'beside them: PUBACK p99', unit: 'ms' },
    ratio: { title: 'p99 beside / alone', unit: '×', atMost: 2 }
  },
  measure: async context => await repeat(context, async () => {
    await using system = await MeasuredSystem.start()
    const reader = system.reader()
    let firstDevice = 0
    let acknowledged = 0
    const publishers = async () => {
      const load = await system.load({ rate: 5000, firstDevice })
      firstDevice += 50
      await pause(1000)
      load.phase('measured')
      await pause(4000)
      load.phase('after')
      const result = await load.stop()
      acknowledged += result.acknowledged
      return result.phases['measured']!.ack
    }
    const beside = async () => {
      const sockets = new Set<Socket>()
      let ended = false
      const hang = (name: string, bytesPerSecond: number): void => {
        const socket = subscribe(system.mqttPort, name, bytesPerSecond)
        sockets.add(socket)
        socket.on('close', () => {
          sockets.delete(socket)
          if (!ended) hang(name, bytesPerSecond)
        })
      }
      hang('stuck', 0)
      hang('slow', slowBytesPerSecond)
      try {
        return await publishers()
      } finally {
        ended = true
        for (const socket of sockets) socket.destroy()
      }
    }
    const alone = await publishers()
    const besideThem = await beside()
    await system.drained()
    await reader.reached(acknowledged)
    await reader.stop()
    return {
      values: {
        aloneP50: alone.p50Ms,
        aloneP99: alone.p99Ms,
        besideP50: besideThem.p50Ms,
        besideP99: besideThem.p99Ms,
        ratio: round3(besideThem.p99Ms / alone.p99Ms)
      },
      verdict: await system.verdict()
    }
  })
}
