import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { Fleet, recordsOf, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { check, metric, missing, publish, publishLines, run } from './programs.ts'

const telemetry = 'devices/shop/m1/telemetry'
const mosquitto = missing('mosquitto_pub')
let fleet: Fleet

/** Nodes without a cloud: nothing but what a test publishes is committed. */
beforeAll(async () => { fleet = await Fleet.start() })
afterAll(async () => { await fleet[Symbol.asyncDispose]() })

async function offlineEdge(node: string, under: readonly string[] = []): Promise<Daemon> {
  if (!fleet.cloud.running) await fleet.cloud.start()
  const edge = await fleet.join(node, { under })
  await fleet.cloud.kill()
  onTestFinished(() => edge.kill())
  return edge
}

async function storedPayloads(edge: Daemon): Promise<string[]> {
  return (await recordsOf(edge.endpoints.http!)).flatMap(line => line.payload ?? [])
}

interface SystemCall {
  readonly name: string
  /** What the descriptor is: a path, or `TCP:[…]`. */
  readonly of: string
  /** The bytes written or read, as text of one byte a character. */
  readonly bytes: string
}

const syncs = ['fdatasync', 'fsync']
const writes = ['write', 'writev', 'sendto', 'sendmsg', 'pwrite64']
const reads = ['read', 'readv', 'recvfrom', 'recvmsg']

/** strace's lines, in the order in which the calls returned; what failed or did not return is left out. */
function parseTrace(text: string): SystemCall[] {
  const calls: SystemCall[] = []
  const unfinished = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, thread = '', rest = ''] = /^(\d+)\s+(.*)$/.exec(line) ?? []
    if (rest.endsWith('<unfinished ...>')) {
      unfinished.set(thread, rest.slice(0, -'<unfinished ...>'.length).trimEnd())
      continue
    }
    const whole = rest.startsWith('<... ') ? `${unfinished.get(thread) ?? ''}${rest.replace(/^<\.\.\. \w+ resumed>/, '')}` : rest
    const [, name, of] = /^(\w+)\(\d+<([^\n]*?)>(?:,|\))/.exec(whole) ?? []
    if (name === undefined || !/ = \d+$/.test(whole)) continue
    const bytes = [...whole.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(match => unescapeHex(match[1]!)).join('')
    calls.push({ name, of: unescapeHex(of!), bytes })
  }
  return calls
}

const unescapeHex = (text: string): string =>
  text.replaceAll(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))

describe('L1, seen by strace', () => {
  const absent = missing('strace', 'mosquitto_pub', 'curl')

  it('the record is written and fsynced between the arrival of a publish or request and its answer', async ({ skip }) => {
    skip(absent !== undefined, absent)
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const trace = join(folder, 'trace')
    const edge = await offlineEdge('traced', [
      // -D: strace is beside the daemon, not above it, and signals go to the daemon.
      'strace', '-D', '-f', '-yy', '-xx', '-s', '4096', '-o', trace, '-e', `trace=${[...syncs, ...writes, ...reads].join(',')}`
    ])
    await edge.start()
    const ways = [
      ...['1', '2', '1', '2'].map(qos => ({
        send: async (payload: string) => (await publish(edge, telemetry, payload, '-q', qos)).code === 0,
        // PUBACK and PUBREC of packet 1.
        answer: qos === '1' ? '\x40\x02\x00\x01' : '\x50\x02\x00\x01'
      })),
      {
        send: async (payload: string) => (await run('curl', ['-fsS', '--data', payload,
          `${edge.endpoints.http}/v1/devices/shop/m1/telemetry`])).code === 0,
        answer: 'HTTP/1.1 200'
      }
    ].map((way, i) => ({ ...way, payload: `marker-${i}-${Math.random().toString(36).slice(2)}` }))
    const commitsBefore = await metric(edge, 'holdfast_edge_commits_total')
    for (const { send, payload } of ways) expect(await send(payload)).toBe(true)
    const commits = await metric(edge, 'holdfast_edge_commits_total') - commitsBefore
    expect(await edge.stop()).toBe(0)
    await until('the trace is whole', async () => new RegExp(`^${edge.pid} .*exited with 0`, 'm').test(await readFile(trace, 'utf8')))

    const calls = parseTrace(await readFile(trace, 'utf8'))
    const isLog = ({ of }: SystemCall): boolean => /\/traced\/db\/\d+\.log$/.test(of)
    const find = (from: number, what: (call: SystemCall) => boolean): number => calls.findIndex((call, i) => i > from && what(call))
    for (const { payload, answer } of ways) {
      const arrived = find(-1, call => reads.includes(call.name) && call.of.startsWith('TCP') && call.bytes.includes(payload))
      const socket = calls[arrived]!.of
      const written = find(arrived, call => writes.includes(call.name) && isLog(call) && call.bytes.includes(payload))
      const synced = find(written, call => syncs.includes(call.name) && isLog(call))
      const answered = find(arrived, call => writes.includes(call.name) && call.of === socket && call.bytes.startsWith(answer))
      const order = [arrived, written, synced, answered]
      expect(Math.min(...order), `${payload}: ${order.join(', ')}`).toBeGreaterThanOrEqual(0)
      expect(order, payload).toEqual(order.toSorted((a, b) => a - b))
    }
    expect(commits).toBeGreaterThanOrEqual(ways.length)
    expect(calls.filter(call => syncs.includes(call.name) && isLog(call)).length).toBeGreaterThanOrEqual(commits)
  })
})

/** A node that has its database, and has said how it is: a later start makes no commit of its own. */
async function startAndKill(edge: Daemon): Promise<void> {
  await edge.start()
  await until('it has said how it is', async () => await metric(edge, 'holdfast_edge_node_status_reports_total') > 0)
  await edge.stop()
  await edge.start()
  await edge.kill()
}

describe('L1, killed on the way', () => {
  const answers = { '1': 'PUBACK', '2': 'PUBREC' } as const

  it.for([
    ['1', 'commit:before-write', false, false], ['1', 'commit:after-write', true, false],
    ['1', 'puback:before', true, false], ['1', 'puback:after', true, true],
    ['2', 'commit:before-write', false, false], ['2', 'puback:before', true, false], ['2', 'puback:after', true, true]
  ] as const)('QoS %s at %s: stored is %s, acknowledged is %s', async ([qos, failpoint, stored, acknowledged], { skip }) => {
    skip(mosquitto !== undefined, mosquitto)
    const edge = await offlineEdge(`${failpoint.replace(':', '-')}-${qos}`)
    await startAndKill(edge)
    await edge.start()
    await publishLines(edge, telemetry, ['before'], '-q', '1')
    await edge.kill()
    await edge.start({ HOLDFAST_FAILPOINT: failpoint.startsWith('commit:') ? `${failpoint}:1` : failpoint })
    const { code, stdout } = await publish(edge, telemetry, 'probe', '-q', qos)
    await edge.ended()
    // At QoS 2 the client then waits for a PUBCOMP that cannot come.
    expect([code === 0, stdout.includes(`received ${answers[qos]}`)]).toEqual([acknowledged && qos === '1', acknowledged])
    await edge.start()
    expect(await storedPayloads(edge)).toEqual(stored ? ['before', 'probe'] : ['before'])
  })
})

describe('L1, over kill -9', () => {
  it('an Idempotency-Key is remembered together with its records', async ({ skip }) => {
    const absent = missing('curl')
    skip(absent !== undefined, absent)
    const edge = await offlineEdge('keyed')
    await edge.start()
    const send = async (): Promise<string> => await check('curl', ['-fsSi', '-H', 'Idempotency-Key: 0d3c', '--data', 'once',
      `${edge.endpoints.http}/v1/devices/shop/m1/telemetry`])
    expect(await send()).not.toMatch(/idempotency-replayed/i)
    await edge.kill()
    await edge.start()
    expect(await send()).toMatch(/idempotency-replayed: true[\s\S]*\{"records":1,"lanes":\{"telemetry":1\}\}/i)
    expect(await storedPayloads(edge)).toEqual(['once'])
  })

  it('of a request that was killed before its commit nothing is left, and its repetition is the first', async ({ skip }) => {
    const absent = missing('curl')
    skip(absent !== undefined, absent)
    const edge = await offlineEdge('interrupted')
    await startAndKill(edge)
    await edge.start({ HOLDFAST_FAILPOINT: 'commit:before-write:1' })
    const args = ['-sSi', '-H', 'Idempotency-Key: 0d3c', '-H', 'Content-Type: application/x-ndjson', '--data-binary',
      '{"device":"shop/m1","payload":1}\n{"device":"shop/m2","payload":2}\n']
    expect((await run('curl', [...args, `${edge.endpoints.http}/v1/telemetry`])).code).not.toBe(0)
    await edge.ended()
    await edge.start()
    expect(await storedPayloads(edge)).toEqual([])
    const answer = await check('curl', [...args, `${edge.endpoints.http}/v1/telemetry`])
    expect(answer).toMatch(/^HTTP\/1.1 200/)
    expect(answer).not.toMatch(/idempotency-replayed/i)
    expect(await storedPayloads(edge)).toEqual(['1', '2'])
  })
})
