import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { recordsOf, until } from '../harness/daemons.ts'
import { lastingPort } from '../harness/ports.ts'
import { MeasuredSystem } from '../harness/system.ts'
import { check, missing, run } from './programs.ts'

/** A folder that is removed with the test. */
async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-mosquitto-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A Mosquitto on a port of its own, that keeps sessions while it runs. Resolves with the port. */
async function startMosquitto(...settings: readonly string[]): Promise<number> {
  const folder = await temporaryFolder()
  const port = await lastingPort()
  await writeFile(join(folder, 'mosquitto.conf'), [
    `listener ${port} 127.0.0.1`, 'set_tcp_nodelay true', 'max_inflight_messages 0', 'max_queued_messages 0', 'max_queued_bytes 0',
    ...settings, ''
  ].join('\n'))
  const mosquitto: ChildProcess = spawn('mosquitto', ['-c', join(folder, 'mosquitto.conf')], { stdio: 'ignore' })
  onTestFinished(async () => {
    mosquitto.kill()
    await once(mosquitto, 'close')
  })
  await until('mosquitto listens', () => new Promise<boolean>(resolve => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.on('connect', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false))
  }))
  return port
}

/** A CA, and certificates of it for the broker and for a client, all PEM files named after their owners. */
async function makeCertificates(folder: string): Promise<(name: string) => string> {
  const path = (name: string): string => join(folder, name)
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await check('openssl', ['req', '-x509', ...key, '-days', '2', '-subj', '/CN=a CA', '-keyout', path('ca.key'), '-out', path('ca.crt')])
  await writeFile(path('extensions'), 'subjectAltName=IP:127.0.0.1\n')
  for (const owner of ['broker', 'edge']) {
    await check('openssl', ['req', ...key, '-subj', `/CN=${owner}`, '-keyout', path(`${owner}.key`), '-out', path(`${owner}.csr`)])
    await check('openssl', ['x509', '-req', '-in', path(`${owner}.csr`), '-CA', path('ca.crt'), '-CAkey', path('ca.key'), '-CAcreateserial',
      '-days', '2', '-extfile', path('extensions'), '-out', path(`${owner}.crt`)])
    // Mosquitto gives up root's rights before it reads them.
    await chmod(path(`${owner}.key`), 0o644)
  }
  await chmod(folder, 0o755)
  return path
}

test('with Mosquitto on the node, kill -9 of edgecore in the middle loses nothing', async ({ skip }) => {
  const absent = missing('mosquitto')
  skip(absent !== undefined, absent)
  const url = `mqtt://127.0.0.1:${await startMosquitto('allow_anonymous true')}`
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

test('a Mosquitto that asks for certificates takes edgecore with its own, and names why it does not without', async ({ skip }) => {
  const absent = missing('mosquitto', 'mosquitto_pub', 'openssl')
  skip(absent !== undefined, absent)
  const path = await makeCertificates(await temporaryFolder())
  // The broker knows who it is by the certificate alone.
  const port = await startMosquitto(`cafile ${path('ca.crt')}`, `certfile ${path('broker.crt')}`, `keyfile ${path('broker.key')}`,
    'require_certificate true', 'use_identity_as_username true', 'allow_anonymous false')
  const broker = ['mqtt.mode=external', `mqtt.external.url=mqtts://127.0.0.1:${port}`, `mqtt.external.caFile=${path('ca.crt')}`]
  await using system = await MeasuredSystem.start({ edge: { set: broker } })
  const ready = async (): Promise<string> => await (await fetch(`${system.edge.endpoints.ops}/readyz?verbose`)).text()
  await until('edgecore is refused', async () => /mqtt.*certificate required/i.test(await ready()))
  expect(await system.metric(system.edge, 'holdfast_edge_external_broker_up')).toBe(0)
  await system.edge.stop()
  system.edge.settings = [`mqtt.external.certificateFile=${path('edge.crt')}`, `mqtt.external.keyFile=${path('edge.key')}`]
  await system.edge.start()
  await until('edgecore is connected', async () => await system.metric(system.edge, 'holdfast_edge_external_broker_up') === 1)
  const published = await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', String(port), '--cafile', path('ca.crt'), '--cert', path('edge.crt'),
    '--key', path('edge.key'), '-i', 'a-device', '-q', '1', '-t', 'devices/shop/plug/telemetry', '-m', 'over mutual TLS'])
  expect([published.code, published.stderr]).toEqual([0, ''])
  await until('it is in the cloud', async () => (await recordsOf(system.cloud.endpoints.ops!))[0]?.payload === 'over mutual TLS')
}, 60_000)
