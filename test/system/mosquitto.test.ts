import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { Fleet, drained, until } from '../harness/daemons.ts'
import type { Daemon, RecordLine } from '../harness/daemons.ts'
import { MosquittoClient, check, metric, missing, publish, publishLines } from './programs.ts'

const absent = missing('mosquitto_pub', 'mosquitto_sub', 'stdbuf', 'curl')
let fleet: Fleet
let nodes = 0

beforeAll(async () => { if (absent === undefined) fleet = await Fleet.start() })
afterAll(async () => { if (absent === undefined) await fleet[Symbol.asyncDispose]() })
beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

/** A node of its own for each test. */
async function startEdge(...set: readonly string[]): Promise<Daemon> {
  const edge = await fleet.join(`edge-${++nodes}`, { set })
  await edge.start()
  onTestFinished(() => edge.kill())
  return edge
}

async function restart(edge: Daemon, how: 'stop' | 'kill'): Promise<void> {
  if (how === 'stop') expect(await edge.stop()).toBe(0)
  else await edge.kill()
  await edge.start()
}

/** What curl reads of a node's records in the cloud, when all have arrived. */
async function cloudRecords(edge: Daemon): Promise<RecordLine[]> {
  await drained(edge)
  const node = edge.dataDir.split('/').at(-1)
  const text = await check('curl', ['-fsS', `${fleet.cloud.endpoints.ops}/v1/records?node=${node}&encoding=utf8`])
  return text.split('\n').filter(line => line !== '').map(line => JSON.parse(line) as RecordLine)
}

const telemetry = 'devices/shop/m1/telemetry'
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => String(from + i))

describe('publish and subscribe', () => {
  it.each(['0', '1', '2'])('QoS %s: subscribers get it once, and curl finds it in the cloud', async qos => {
    const edge = await startEdge()
    await using sub = await MosquittoClient.subscribe(edge, '-t', 'devices/#', '-q', qos)
    expect((await publish(edge, telemetry, 'one', '-q', qos)).code).toBe(0)
    expect((await publish(edge, telemetry, 'two', '-q', qos)).code).toBe(0)
    expect(await sub.until(`${telemetry} ${qos} 0 two`)).toEqual([`${telemetry} ${qos} 0 one`, `${telemetry} ${qos} 0 two`])
    await until('both are stored', async () => await metric(edge, 'holdfast_edge_mqtt_acknowledged_total') === 2)
    expect((await cloudRecords(edge)).map(({ device, topic, payload }) => [device, topic, payload]))
      .toEqual([['shop/m1', telemetry, 'one'], ['shop/m1', telemetry, 'two']])
  })

  it('filters that overlap give one message, at the highest QoS of them', async () => {
    const edge = await startEdge()
    await using sub = await MosquittoClient.subscribe(edge, '-t', 'o/#', '-t', '+/x', '-t', 'o/x', '-q', '1')
    for (const topic of ['o/x', 'p/y', 'o/y', 'o', 'p/x']) await publish(edge, topic, 'm', '-q', '2')
    expect(await sub.until('p/x 1 0 m')).toEqual(['o/x 1 0 m', 'o/y 1 0 m', 'o 1 0 m', 'p/x 1 0 m'])
  })

  it('# does not match topics that begin with $', async () => {
    const edge = await startEdge()
    await using sub = await MosquittoClient.subscribe(edge, '-t', '#', '-q', '1')
    await publish(edge, '$hw/events/upload/x', 'hidden', '-q', '1')
    await publish(edge, 'seen', 'm', '-q', '1')
    expect(await sub.until('seen 1 0 m')).toEqual(['seen 1 0 m'])
  })

  it('a hundred devices are a hundred devices in the cloud', async () => {
    const edge = await startEdge()
    const names = numbers(0, 100)
    for (let at = 0; at < names.length; at += 10) {
      await Promise.all(names.slice(at, at + 10).map(name => publishLines(edge, `devices/shop/m${name}/telemetry`, ['a', 'b'], '-q', '1')))
    }
    const records = await cloudRecords(edge)
    expect(records).toHaveLength(200)
    for (const name of names) {
      expect(records.filter(({ device }) => device === `shop/m${name}`).map(({ payload }) => payload)).toEqual(['a', 'b'])
    }
  })

  it('the telemetry topics of KubeEdge become records, alarms a lane of their own, and the rest stays local', async () => {
    const edge = await startEdge()
    const topics = ['$hw/events/upload/x', 'SYS/dis/upload_records', 'x/user/y', '$ke/events/device/ns/n/data/update',
      'devices/shop/m1/alarms', 'somewhere/else', 'devices/-/m1/telemetry']
    for (const topic of topics) expect((await publish(edge, topic, topic, '-q', '1')).code).toBe(0)
    const records = await cloudRecords(edge)
    expect(records.map(({ lane, device, topic, payload }) => [lane, device, topic, payload]).sort()).toEqual([
      ['alarms', 'shop/m1', 'devices/shop/m1/alarms', 'devices/shop/m1/alarms'],
      ['telemetry', 'node', '$hw/events/upload/x', '$hw/events/upload/x'],
      ['telemetry', 'node', 'SYS/dis/upload_records', 'SYS/dis/upload_records'],
      ['telemetry', 'node', 'x/user/y', 'x/user/y'],
      ['telemetry', 'ns/n', '$ke/events/device/ns/n/data/update', '$ke/events/device/ns/n/data/update']
    ])
    expect(await metric(edge, 'holdfast_edge_mqtt_not_recorded_total{reason="unrouted"}')).toBe(1)
    expect(await metric(edge, 'holdfast_edge_mqtt_not_recorded_total{reason="bad-device"}')).toBe(1)
  })
})

describe('refusals', () => {
  it('MQTT 3.1 and 3.1.1 are spoken, and 5 is refused', async () => {
    const edge = await startEdge()
    for (const version of ['mqttv31', 'mqttv311']) {
      expect((await publish(edge, telemetry, version, '-q', '1', '-i', 'dev', '-V', version)).code).toBe(0)
    }
    const refused = await publish(edge, telemetry, 'mqttv5', '-q', '1', '-i', 'dev', '-V', 'mqttv5')
    expect([refused.code === 0, refused.stdout.includes('PUBLISH')]).toEqual([false, false])
    expect((await cloudRecords(edge)).map(({ payload }) => payload)).toEqual(['mqttv31', 'mqttv311'])
  })

  it('nobody publishes to $SYS, nor leaves a will there', async () => {
    const edge = await startEdge()
    const refused = await publish(edge, '$SYS/broker/version', 'mine', '-q', '1')
    expect([refused.code, refused.stdout.includes('PUBACK')]).toEqual([7, false])
    const will = await publish(edge, telemetry, 'x', '-q', '1', '--will-topic', '$SYS/x', '--will-payload', 'mine')
    expect([will.code === 0, will.stdout.includes('PUBLISH')]).toEqual([false, false])
    expect(await metric(edge, 'holdfast_edge_mqtt_closed_total{reason="bad-topic"}')).toBe(2)
    expect((await publish(edge, telemetry, 'x', '-q', '1')).code).toBe(0)
  })

  it('256 KiB is taken, more closes the connection, and others are not disturbed', async () => {
    const edge = await startEdge()
    const folder = await mkdtemp(join(tmpdir(), 'holdfast-system-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    const publishBytes = async (bytes: number): Promise<number | null> => {
      const path = join(folder, String(bytes))
      await writeFile(path, 'x'.repeat(bytes))
      return (await publish(edge, telemetry, ['-f', path], '-q', '1')).code
    }
    await using other = await MosquittoClient.subscribe(edge, '-t', 'other', '-q', '1')
    expect(await publishBytes(256 * 1024)).toBe(0)
    expect(await publishBytes(300 * 1024)).toBe(7)
    expect(await metric(edge, 'holdfast_edge_mqtt_closed_total{reason="too-large"}')).toBe(1)
    await publish(edge, 'other', 'm', '-q', '1')
    expect(await other.until('other 1 0 m')).toEqual(['other 1 0 m'])
    expect((await cloudRecords(edge)).map(({ payload }) => payload!.length)).toEqual([256 * 1024])
  })

  it('a subscriber that stopped reading does not keep a publisher waiting', async () => {
    const edge = await startEdge()
    await using stuck = await MosquittoClient.subscribe(edge, '-t', '#', '-q', '1')
    await stuck.signal('SIGSTOP')
    const payloads = numbers(0, 4000).map(number => number.padEnd(2000, '.'))
    await publishLines(edge, telemetry, payloads, '-q', '1')
    await until('the stuck one is closed', async () => await metric(edge, 'holdfast_edge_mqtt_closed_total{reason="slow-subscriber"}') === 1)
    expect((await cloudRecords(edge)).map(({ payload }) => payload)).toEqual(payloads)
  })
})

describe('retained messages', () => {
  it.each(['stop', 'kill'] as const)('survive a restart (%s) as the last one was, and cleared ones stay away', async how => {
    const edge = await startEdge()
    await publish(edge, 'r/a', 'old', '-q', '1', '-r')
    await publish(edge, 'r/a', 'new', '-q', '2', '-r')
    await publish(edge, 'r/b', 'x', '-q', '1', '-r')
    expect((await publish(edge, 'r/b', ['-n'], '-q', '1', '-r')).code).toBe(0)
    await restart(edge, how)
    {
      await using sub = await MosquittoClient.subscribe(edge, '-t', 'r/#', '-q', '1')
      await sub.shows('> r/a')
      await publish(edge, 'r/end', 'm', '-q', '1')
      expect(await sub.until('r/end 1 0 m')).toEqual(['r/a 1 1 new', 'r/end 1 0 m'])
    }
    expect((await publish(edge, 'r/a', ['-n'], '-q', '1', '-r')).code).toBe(0)
    await restart(edge, how)
    await using sub = await MosquittoClient.subscribe(edge, '-t', 'r/#', '-q', '1')
    await publish(edge, 'r/end', 'm', '-q', '1')
    expect(await sub.until('r/end 1 0 m')).toEqual(['r/end 1 0 m'])
  })
})

describe('wills', () => {
  const will = (name: string): string[] =>
    ['--will-topic', `devices/shop/${name}/alarms`, '--will-payload', 'gone', '--will-qos', '1', '--will-retain']

  it('of a client that died is delivered, retained and recorded; of one that said goodbye it is not', async () => {
    const edge = await startEdge()
    await using watcher = await MosquittoClient.subscribe(edge, '-t', 'devices/#', '-q', '1')
    await using polite = await MosquittoClient.subscribe(edge, '-t', 'x', ...will('polite'))
    await using sub = await MosquittoClient.subscribe(edge, '-t', 'x', ...will('sub'))
    await using pub = await MosquittoClient.connect(edge, ...will('pub'))
    await polite.signal('SIGTERM')
    await sub.signal('SIGKILL')
    await watcher.until('devices/shop/sub/alarms 1 0 gone')
    await pub.signal('SIGKILL')
    expect(await watcher.until('devices/shop/pub/alarms 1 0 gone'))
      .toEqual(['devices/shop/sub/alarms 1 0 gone', 'devices/shop/pub/alarms 1 0 gone'])
    await using late = await MosquittoClient.subscribe(edge, '-t', 'devices/shop/sub/alarms', '-q', '1')
    await late.until('devices/shop/sub/alarms 1 1 gone')
    expect((await cloudRecords(edge)).map(({ lane, device, payload }) => [lane, device, payload]))
      .toEqual([['alarms', 'shop/sub', 'gone'], ['alarms', 'shop/pub', 'gone']])
  })

  it('of a client that was connected when edgecore was killed is published after the restart, once', async () => {
    const edge = await startEdge()
    await using client = await MosquittoClient.connect(edge, ...will('m1'))
    await edge.kill()
    await client.signal('SIGKILL')
    await edge.start()
    await using late = await MosquittoClient.subscribe(edge, '-t', 'devices/#', '-q', '1')
    await late.until('devices/shop/m1/alarms 1 1 gone')
    await restart(edge, 'kill')
    expect((await cloudRecords(edge)).map(({ device, payload }) => [device, payload])).toEqual([['shop/m1', 'gone']])
  })
})

describe('sessions', () => {
  const subscribeOnce = async (edge: Daemon, id: string, ...args: readonly string[]): Promise<void> => {
    await using client = await MosquittoClient.subscribe(edge, '-i', id, '-t', 't/#', ...args)
    await client.signal('SIGTERM')
  }

  it.each([['1', 'stop'], ['1', 'kill'], ['2', 'stop'], ['2', 'kill']] as const)(
    'QoS %s: what came while the client was away is delivered once, in order, over restarts (%s)', async (qos, how) => {
      const edge = await startEdge()
      await subscribeOnce(edge, 'reader', '-c', '-q', qos)
      await publishLines(edge, 't/x', numbers(0, 20), '-q', qos)
      await restart(edge, how)
      await publishLines(edge, 't/x', numbers(20, 40), '-q', qos)
      await restart(edge, how)
      {
        await using back = await MosquittoClient.subscribe(edge, '-i', 'reader', '-c', '-t', 't/#', '-q', qos)
        await publish(edge, 't/x', 'live', '-q', qos)
        expect(await back.until(`t/x ${qos} 0 live`)).toEqual([...numbers(0, 40), 'live'].map(payload => `t/x ${qos} 0 ${payload}`))
        await back.signal('SIGTERM')
      }
      // QoS 1 promises no more than this: what is durable behind the subscriber's acknowledgements, they are too.
      await until('the broker has read to its end', async () => await metric(edge, 'holdfast_edge_mqtt_connections') === 0)
      await publish(edge, telemetry, 'x', '-q', '1')
      await restart(edge, how)
      await using again = await MosquittoClient.subscribe(edge, '-i', 'reader', '-c', '-t', 't/#', '-q', qos)
      await publish(edge, 't/x', 'end', '-q', qos)
      expect(await again.until(`t/x ${qos} 0 end`)).toEqual([`t/x ${qos} 0 end`])
    })

  it('a subscription outlives kill -9 without being made again', async () => {
    const edge = await startEdge()
    await subscribeOnce(edge, 'reader', '-c', '-q', '1')
    await restart(edge, 'kill')
    // mosquitto_sub cannot connect without subscribing; it subscribes to something else.
    await using back = await MosquittoClient.subscribe(edge, '-i', 'reader', '-c', '-t', 'elsewhere', '-q', '1')
    await publish(edge, 't/x', 'm', '-q', '1')
    expect(await back.until('t/x 1 0 m')).toEqual(['t/x 1 0 m'])
  })

  it('a clean session forgets what was kept', async () => {
    const edge = await startEdge()
    await subscribeOnce(edge, 'reader', '-c', '-q', '1')
    await publish(edge, 't/x', 'kept', '-q', '1')
    await subscribeOnce(edge, 'reader', '-q', '1')
    await publish(edge, 't/x', 'nobody is there', '-q', '1')
    await restart(edge, 'kill')
    await using back = await MosquittoClient.subscribe(edge, '-i', 'reader', '-c', '-t', 't/#', '-q', '1')
    await publish(edge, 't/x', 'end', '-q', '1')
    expect(await back.until('t/x 1 0 end')).toEqual(['t/x 1 0 end'])
  })
})
