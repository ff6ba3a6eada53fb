import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { until } from '../harness/daemons.ts'
import { MeasuredSystem } from '../harness/system.ts'
import { missing } from './programs.ts'

/** A Mosquitto on a port of its own, that keeps sessions while it runs. */
async function startMosquitto(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-mosquitto-'))
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  await new Promise(resolve => { probe.close(resolve) })
  await writeFile(join(folder, 'mosquitto.conf'), [
    `listener ${port} 127.0.0.1`, 'allow_anonymous true', 'set_tcp_nodelay true', 'max_inflight_messages 0', 'max_queued_messages 0',
    'max_queued_bytes 0', ''
  ].join('\n'))
  const mosquitto: ChildProcess = spawn('mosquitto', ['-c', join(folder, 'mosquitto.conf')], { stdio: 'ignore' })
  onTestFinished(async () => {
    mosquitto.kill()
    await once(mosquitto, 'close')
    await rm(folder, { recursive: true, force: true })
  })
  await until('mosquitto listens', () => new Promise<boolean>(resolve => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.on('connect', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false))
  }))
  return `mqtt://127.0.0.1:${port}`
}

test('with Mosquitto on the node, kill -9 of edgecore in the middle loses nothing', async ({ skip }) => {
  const absent = missing('mosquitto')
  skip(absent !== undefined, absent)
  const url = await startMosquitto()
  await using system = await MeasuredSystem.start({ edge: { set: ['mqtt.mode=external', `mqtt.external.url=${url}`] } })
  const connected = async (): Promise<boolean> => await system.metric(system.edge, 'holdfast_edge_external_broker_up') === 1
  await until('edgecore is connected', connected)
  expect(system.edge.endpoints.mqtt).toBe(url)
  const reader = system.reader()
  // The load generator publishes to Mosquitto, which acknowledges; edgecore takes from there.
  const load = await system.load({ count: 20_000, rate: 5000, connections: 10 })
  const acknowledged = (): Promise<number> => system.metric(system.edge, 'holdfast_edge_mqtt_acknowledged_total')
  for (let i = 0; i < 3; i++) {
    await until('some of it is stored', async () => await acknowledged() > 200)
    await system.edge.kill()
    await system.edge.start()
  }
  await load.result
  await reader.reached(20_000)
  await system.drained()
  await reader.stop()
  const verdict = await system.verdict()
  expect(verdict).toMatchObject({ acknowledged: 20_000, inCloud: 20_000, lost: 0, inGaps: 0, unknown: 0 })
}, 120_000)
