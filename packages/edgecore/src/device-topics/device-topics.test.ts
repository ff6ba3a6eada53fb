import { readBatchHeader, readRecords } from '@holdfast/protos'
import { HoldfastError } from '@holdfast/runtime'
import { describe, expect, test } from 'vitest'
import { RawClient, publishPacket, until } from '../testing/broker-harness.ts'
import { device, deviceModel, node, stamped } from '../twins/testing/twin-harness.ts'
import type { DeviceId } from '../twins/index.ts'
import { deviceTopicsLimits } from './limits.ts'
import { openDeviceTopics } from './testing/device-topics-fixture.ts'
import type { DeviceTopicsFixture, TestClient } from './testing/device-topics-fixture.ts'

const id = 'plant/s1' as DeviceId
const at = (rest: string, of: string = id): string => `$hw/events/device/${of}/${rest}`
/** What the broker sends, whichever number stands there. */
const anyTime = expect.any(Number) as number
const past = 1_700_000_000_000

const thermostat = deviceModel('plant/thermostat', [
  { name: 'temperature', type: 'INT', accessMode: 'ReadOnly', minimum: '-40', maximum: '85', unit: '°C' },
  { name: 'target', type: 'FLOAT', accessMode: 'ReadWrite' },
  { name: 'on', type: 'BOOLEAN', accessMode: 'ReadWrite' },
  { name: 'text', type: 'STRING', accessMode: 'ReadWrite' },
  { name: 'blob', type: 'BYTES', accessMode: 'ReadWrite' }
])
const modelled = device(id, { model: 'thermostat', properties: [{ name: 'target' }] })

/** With one device, and a client that hears all that is said of it. */
async function withDevice(object = device(id)): Promise<DeviceTopicsFixture & { readonly client: TestClient }> {
  const fixture = await openDeviceTopics()
  await fixture.receive({ 'plant/thermostat': thermostat, [id]: object })
  return { ...fixture, client: await fixture.connect(['$hw/events/#']) }
}

describe('twin/update', () => {
  test('reported values are stored, answered as stored, and told as a document', async () => {
    const { client, twins } = await withDevice()
    await client.send(at('twin/update'), {
      event_id: 'e1', timestamp: past,
      twin: { temperature: { actual: { value: '23', metadata: { timestamp: past - 1000 } }, optional: true, metadata: { type: 'int' } } }
    })
    const stored = { actual: { value: '23', metadata: { timestamp: past - 1000 } }, optional: true, metadata: { type: 'int' } }
    expect(await client.next(at('twin/update/result'))).toEqual({ event_id: 'e1', timestamp: anyTime, twin: { temperature: stored } })
    expect(await client.next(at('twin/update/document'))).toEqual({
      event_id: 'e1', timestamp: anyTime, twin: { temperature: { last: null, current: stored } }
    })
    expect(twins.get(id)!.twin.reported.get('temperature')).toMatchObject({ value: 23, timestamp: past - 1000 })
    await client.send(at('twin/update'), { event_id: 'e2', twin: { temperature: { actual: { value: '24' } } } })
    expect(await client.next(at('twin/update/document'))).toMatchObject({
      event_id: 'e2', twin: { temperature: { last: { actual: { value: '23' } }, current: { actual: { value: '24' } } } }
    })
  })

  test('expected values are desired values, which go on as the cloud\'s do', async () => {
    const { client, twins } = await withDevice(modelled)
    await client.send(at('twin/update'), { event_id: 'e1', twin: { target: { expected: { value: '21.5' } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ twin: {
      target: { expected: { value: '21.5' }, optional: false, metadata: { type: 'float' } }
    } })
    expect(await client.next(at('twin/update/delta'))).toMatchObject({
      event_id: '', timestamp: anyTime, twin: { target: { expected: { value: '21.5' } } }, delta: { target: '21.5' }
    })
    const entry = twins.get(id)!.twin.desired.get('target')!
    expect([entry.value, entry.version.origin.startsWith(`${node}/`)]).toEqual([21.5, true])
  })

  test('both of one message are stored together, or not at all', async () => {
    const { client, twins } = await withDevice(modelled)
    const both = (temperature: string): object => ({ event_id: 'b', twin: {
      temperature: { actual: { value: temperature } }, target: { actual: { value: '20' }, expected: { value: '25' } }
    } })
    await client.send(at('twin/update'), both('warm'))
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'b', code: 400 })
    expect(twins.get(id)!.twin.revision).toBe(0)
    await client.send(at('twin/update'), both('19'))
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'b', twin: {
      temperature: { actual: { value: '19' } }, target: { actual: { value: '20' }, expected: { value: '25' } }
    } })
    expect(await client.next(at('twin/update/delta'))).toMatchObject({
      twin: { target: { actual: { value: '20' }, expected: { value: '25' } } }, delta: { target: '25' }
    })
  })

  test('null, and the type deleted, take an optional property away', async () => {
    const { client, twins } = await withDevice(device(id, { properties: [{ name: 'listed' }] }))
    await client.send(at('twin/update'), { twin: { old: { actual: { value: '1' }, expected: { value: '2' } }, older: { actual: { value: '3' } } } })
    await client.next(at('twin/update/result'))
    await client.next(at('twin/update/document'))
    await client.send(at('twin/update'), { event_id: 'd', twin: { old: null, older: { metadata: { type: 'deleted' } } } })
    expect(await client.next(at('twin/update/result'))).toEqual({ event_id: 'd', timestamp: anyTime, twin: { old: null, older: null } })
    expect(await client.next(at('twin/update/document'))).toMatchObject({ twin: {
      old: { last: { actual: { value: '1' }, expected: { value: '2' } }, current: null }, older: { last: { actual: { value: '3' } }, current: null }
    } })
    expect([...twins.get(id)!.twin.desired.values(), ...twins.get(id)!.twin.reported.values()].every(entry => entry.deleted)).toBe(true)
    await client.send(at('twin/update'), { event_id: 'l', twin: { listed: null } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'l', code: 400, reason: expect.stringContaining('"listed"') as string })
  })

  test('an id of one segment is one of namespace default, and is answered under that topic', async () => {
    const { client, receive, twins } = await withDevice()
    await receive({ 'default/plug': device('default/plug') })
    await client.send(at('twin/update', 'plug'), { event_id: 'e', twin: { on: { actual: { value: 'yes' } } } })
    expect(await client.next(at('twin/update/result', 'plug'))).toMatchObject({ event_id: 'e', twin: { on: { actual: { value: 'yes' } } } })
    expect(twins.get('default/plug' as DeviceId)!.twin.reported.get('on')!.value).toBe('yes')
  })

  test('PUBACK and answer come after the commit', async () => {
    const { client, store, port } = await withDevice()
    const raw = await RawClient.open(port)
    await raw.connect('raw')
    store.mode = 'hold'
    raw.send(publishPacket(at('twin/update'), JSON.stringify({ twin: { p: { actual: { value: '1' } } } }), 1, 1))
    await until(() => store.held === 1, 'the write')
    await client.send('other', '{}', 0)
    expect([raw.ids(4), client.messages.length]).toEqual([[], 0])
    store.release()
    await client.next(at('twin/update/result'))
    await until(() => raw.ids(4).length === 1, 'PUBACK')
    raw.end()
  })

  test('a full disk holds it until there is room; what changes nothing is answered meanwhile', async () => {
    const { client, twins, port } = await withDevice()
    await client.send(at('twin/update'), { event_id: 'first', twin: { p: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'first' })
    twins.refuse(new HoldfastError('DISK_FULL', 'no room'))
    const raw = await RawClient.open(port)
    await raw.connect('raw')
    raw.send(publishPacket(at('twin/update'), '{"event_id":"held","twin":{"p":{"actual":{"value":"2"}}}}', 1, 1))
    await client.send(at('twin/update'), { event_id: 'same', twin: { p: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'same', twin: { p: { actual: { value: '1' } } } })
    expect(raw.ids(4)).toEqual([])
    twins.refuse(undefined)
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'held', twin: { p: { actual: { value: '2' } } } })
    await until(() => raw.ids(4).length === 1, 'PUBACK')
    raw.end()
  })

  test('what cannot be committed is not answered', async () => {
    const { client, store, port } = await withDevice()
    const raw = await RawClient.open(port)
    await raw.connect('raw')
    store.mode = 'fail'
    raw.send(publishPacket(at('twin/update'), JSON.stringify({ twin: { p: { actual: { value: '1' } } } }), 1, 1),
      publishPacket(at('twin/get'), '{}', 0))
    await until(() => raw.closed, 'the end')
    expect([raw.ids(4), client.messages]).toEqual([[], []])
  })
})

describe('KubeEdge loses these; here they are answered', () => {
  test.each([
    ['{"event_id":"m1","timestamp":1,"twin":', '', 'JSON'],
    ['{"event_id":"m2","twin":{"p":{"actual":{}}}}', 'm2', 'twin.p.actual.value'],
    ['{"event_id":"m3","twin":{"p":{}}}', 'm3', 'twin.p'],
    ['{"event_id":"m4","twin":[]}', 'm4', 'twin'],
    ['{"event_id":"m5"}', 'm5', 'twin'],
    ['{"event_id":"m6","twin":{}}', 'm6', '1 to 256 properties'],
    ['{"event_id":"m7","twin":{"p":"5"}}', 'm7', 'twin.p'],
    ['{"event_id":"m8","twin":{"p":{"actual":{"value":"1"},"metadata":{"type":"colour"}}}}', 'm8', 'twin.p.metadata.type'],
    ['{"event_id":"m9","twin":{"p":{"actual":{"value":"1","metadata":{"timestamp":"now"}}}}}', 'm9', 'twin.p.actual.metadata.timestamp'],
    ['{"event_id":"m10","timestamp":"now","twin":{"p":null}}', 'm10', 'timestamp'],
    ['{"event_id":11,"twin":{"p":null}}', '', 'event_id'],
    ['[]', '', 'object'], ['', '', 'JSON'], ['null', '', 'object']
  ])('malformed: %s', async (payload, eventId, reason) => {
    const { client } = await withDevice()
    await client.send(at('twin/update'), payload)
    expect(await client.next(at('twin/update/result'))).toEqual({
      event_id: eventId, timestamp: anyTime, code: 400, reason: expect.stringContaining(reason) as string
    })
  })

  test('not UTF-8', async () => {
    const { client } = await withDevice()
    await client.send(at('twin/update'), Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]))
    expect(await client.next(at('twin/update/result'))).toMatchObject({ code: 400, reason: expect.stringContaining('UTF-8') as string })
  })

  test('the payload that ends KubeEdge\'s worker disturbs nobody', async () => {
    const { client, receive } = await withDevice()
    await receive({ 'plant/s2': device('plant/s2') })
    for (let i = 0; i < 50; i++) client.mqtt.publish(at('twin/update'), '{"twin":{"p":{"actual":{}}}}')
    await client.send(at('twin/update', 'plant/s2'), { event_id: 'fine', twin: { p: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result', 'plant/s2'))).toMatchObject({ event_id: 'fine', twin: { p: {} } })
  })

  test('a flood of malformed messages of one device does not keep another waiting', async () => {
    const { client, connect, port, topics } = await withDevice()
    const other = await connect([at('state/update/result')])
    const flood = await RawClient.open(port)
    await flood.connect('flood')
    const count = 50_000
    flood.send(...Array.from({ length: count }, () => publishPacket(at('twin/update', 'plant/flood'), '{"twin":{"p":{"actual":{}}}}')))
    const refused = (): number => topics.requests.get('twin-update malformed')?.count ?? 0
    await until(() => refused() > 0, 'the flood')
    await other.send(at('state/update'), { event_id: 'fine', state: 'ok' })
    expect(await other.next(at('state/update/result'))).toMatchObject({ event_id: 'fine', device: { state: 'ok' } })
    expect(refused()).toBeLessThan(count)
    flood.end()
    await client.mqtt.endAsync(true)
  })

  test.each(['dev', 'device', 'event', 'events', 'hw', 'twin'])('an update in namespace %s', async namespace => {
    const { client, receive } = await withDevice()
    const other = `${namespace}/${namespace}`
    await receive({ [other]: device(other) })
    await client.send(at('twin/update', other), { event_id: 'n', twin: { p: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result', other))).toMatchObject({ event_id: 'n', twin: { p: { actual: { value: '1' } } } })
  })

  test.each([
    'with spaces and +', '{"json":[1,2]}', '日本語 ✓ 𝄞', '', 'x'.repeat(60_000), '"quoted"', 'line\nbreak'
  ])('a value such as %j', async value => {
    const { client, twins } = await withDevice()
    await client.send(at('twin/update'), { twin: { p: { actual: { value } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ twin: { p: { actual: { value } } } })
    expect(twins.get(id)!.twin.reported.get('p')!.value).toBe(value)
  })

  test('a value past its bound is refused with it', async () => {
    const { client } = await withDevice()
    await client.send(at('twin/update'), { event_id: 'big', twin: { p: { actual: { value: 'x'.repeat(65_536) } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({
      event_id: 'big', code: 400, reason: expect.stringMatching(/"p".*64 KiB/) as string
    })
  })

  test.each([
    ['the type', 'temperature', { actual: { value: 'warm' } }, /"temperature".*"warm".*INT/],
    ['the range', 'temperature', { actual: { value: '86' } }, /"temperature".*86.*maximum 85/],
    ['the access mode', 'temperature', { expected: { value: '20' } }, /"temperature".*ReadOnly/],
    ['BOOLEAN', 'on', { actual: { value: 'maybe' } }, /"on".*"maybe".*BOOLEAN/],
    ['FLOAT', 'target', { expected: { value: 'NaN' } }, /"target".*"NaN".*FLOAT/],
    ['BYTES', 'blob', { actual: { value: 'no base64!' } }, /"blob".*BYTES/],
    ['a property that it does not have', 'pressure', { actual: { value: '1' } }, /"pressure".*DeviceModel does not have/]
  ])('the model is enforced: %s', async (_what, property, value, reason) => {
    const { client, twins } = await withDevice(modelled)
    await client.send(at('twin/update'), { event_id: 'r', twin: { [property]: value } })
    expect(await client.next(at('twin/update/result'))).toEqual({
      event_id: 'r', timestamp: anyTime, code: 400, reason: expect.stringMatching(reason) as string
    })
    expect(twins.get(id)!.twin.revision).toBe(0)
  })

  test('an unknown property of a device that has no model is made', async () => {
    const { client } = await withDevice()
    await client.send(at('twin/update'), { twin: { anything: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ twin: { anything: { actual: { value: '1' } } } })
  })

  test.each(['plant/unknown', 'unknown', 'Plant/S_1'])('an unknown device: %s', async other => {
    const { client } = await withDevice()
    await client.send(at('twin/update', other), { event_id: 'u', twin: { p: { actual: { value: '1' } } } })
    expect(await client.next(at('twin/update/result', other))).toEqual({
      event_id: 'u', timestamp: anyTime, code: 404, reason: expect.stringContaining(other) as string
    })
    await client.send(at('twin/get', other), { event_id: 'g' })
    expect(await client.next(at('twin/get/result', other))).toMatchObject({ event_id: 'g', code: 404 })
    await client.send(at('state/update', other), { event_id: 's', state: 'ok' })
    expect(await client.next(at('state/update/result', other))).toMatchObject({ event_id: 's', code: 404 })
  })

  test('the same value again is answered, and nothing is stored or told', async () => {
    const { client, committer } = await withDevice()
    const update = { event_id: 'a', twin: { p: { actual: { value: '1', metadata: { timestamp: past } } } } }
    await client.send(at('twin/update'), update)
    await client.next(at('twin/update/result'))
    await client.next(at('twin/update/document'))
    const { commits } = committer.stats
    await client.send(at('twin/update'), { ...update, event_id: 'b' })
    expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: 'b', twin: { p: { actual: { value: '1' } } } })
    expect([committer.stats.commits, client.messages]).toEqual([commits, []])
  })

  test('the device\'s timestamp is kept, and an older report is answered and not applied', async () => {
    const { client, twins } = await withDevice()
    await client.send(at('twin/update'), { timestamp: past, twin: { p: { actual: { value: 'new' } } } })
    await client.next(at('twin/update/result'))
    await client.next(at('twin/update/document'))
    await client.send(at('twin/update'), { event_id: 'late', timestamp: past - 1, twin: { p: { actual: { value: 'old' } } } })
    expect(await client.next(at('twin/update/result'))).toMatchObject({
      event_id: 'late', twin: { p: { actual: { value: 'new', metadata: { timestamp: past } } } }
    })
    expect([client.messages, twins.stats.staleProperties]).toEqual([[], 1])
  })

  test('a Device that comes later is known as soon as it is here', async () => {
    const { client, receive } = await withDevice()
    await receive({ 'plant/late': device('plant/late') })
    await client.send(at('twin/get', 'plant/late'), { event_id: 'g' })
    expect(await client.next(at('twin/get/result', 'plant/late'))).toEqual({ event_id: 'g', timestamp: anyTime, twin: {} })
  })
})

describe('twin/get', () => {
  test('answers with all that has a value', async () => {
    const { client } = await withDevice(stamped({ ...modelled, spec: {
      ...modelled['spec'] as object, properties: [{ name: 'target', desired: { value: '21' } }]
    } }, past, thermostat))
    await client.send(at('twin/update'), { timestamp: past, twin: { temperature: { actual: { value: '19' } }, on: { actual: { value: 'true' } } } })
    await client.send(at('twin/get'), { event_id: 'g1', timestamp: past })
    expect(await client.next(at('twin/get/result'))).toEqual({ event_id: 'g1', timestamp: anyTime, twin: {
      target: { expected: { value: '21', metadata: { timestamp: past } }, optional: false, metadata: { type: 'float' } },
      temperature: { actual: { value: '19', metadata: { timestamp: past } }, optional: false, metadata: { type: 'int' } },
      on: { actual: { value: 'true', metadata: { timestamp: past } }, optional: false, metadata: { type: 'boolean' } }
    } })
  })

  test('behind an update of the same sender, that is in the answer', async () => {
    const { client } = await withDevice()
    for (let i = 0; i < 20; i++) {
      client.mqtt.publish(at('twin/update'), JSON.stringify({ event_id: `u${i}`, twin: { p: { actual: { value: String(i) } } } }))
      client.mqtt.publish(at('twin/get'), JSON.stringify({ event_id: `g${i}` }))
    }
    for (let i = 0; i < 20; i++) {
      expect(await client.next(at('twin/update/result'))).toMatchObject({ event_id: `u${i}` })
      expect(Number((await client.next(at('twin/get/result')) as { twin: { p: { actual: { value: string } } } }).twin.p.actual.value))
        .toBeGreaterThanOrEqual(i)
    }
  })

  test('is not put off by the updates behind it', async () => {
    const { store, topics, client } = await withDevice()
    store.mode = 'hold'
    const update = (value: string) => client.mqtt.publish(at('twin/update'), JSON.stringify({ twin: { p: { actual: { value } } } }))
    update('1')
    await until(() => store.held === 1, 'the first update is being written')
    client.mqtt.publish(at('twin/get'), JSON.stringify({ event_id: 'g1' }))
    update('2')
    await until(() => topics.requests.get('twin-update done')?.count === 2, 'the second update has come')
    store.release()
    store.mode = 'hold'
    await until(() => store.held === 1, 'the second update is being written')
    expect(await client.next(at('twin/get/result'))).toMatchObject({ event_id: 'g1', twin: { p: { actual: { value: '1' } } } })
    store.release()
  })

  test('L8: as many wait for a write as are stated, one more is answered with what is durable', async () => {
    const { store, client } = await withDevice()
    const most = deviceTopicsLimits.getsWaiting.value
    store.mode = 'hold'
    client.mqtt.publish(at('twin/update'), JSON.stringify({ twin: { p: { actual: { value: '1' } } } }))
    for (let i = 0; i <= most; i++) client.mqtt.publish(at('twin/get'), JSON.stringify({ event_id: `g${i}` }))
    expect(await client.next(at('twin/get/result'))).toMatchObject({ event_id: `g${most}`, twin: {} })
    store.release()
    for (let i = 0; i < most; i++) {
      expect(await client.next(at('twin/get/result'))).toMatchObject({ event_id: `g${i}`, twin: { p: { actual: { value: '1' } } } })
    }
  })

  test('malformed', async () => {
    const { client } = await withDevice()
    await client.send(at('twin/get'), '{')
    expect(await client.next(at('twin/get/result'))).toMatchObject({ event_id: '', code: 400 })
  })
})

describe('state/update', () => {
  test.each(['online', 'offline', 'ok', 'unknown', 'unhealthy'])('%s', async state => {
    const { client, twins } = await withDevice()
    await client.send(at('state/update'), { event_id: 's', timestamp: 0, state })
    const online = state === 'online' || state === 'ok'
    const answer = await client.next(at('state/update/result'))
    expect(answer).toEqual({ event_id: 's', timestamp: anyTime, device: {
      name: 's1', state, ...online && { lastOnlineTime: new Date(twins.get(id)!.twin.lastOnlineTime!).toISOString() }
    } })
  })

  test('the time of the last one that was online stays', async () => {
    const { client } = await withDevice()
    for (const state of ['online', 'unhealthy', 'unhealthy']) await client.send(at('state/update'), { state })
    const [online] = [await client.next(at('state/update/result')), await client.next(at('state/update/result'))]
    expect(online).toMatchObject({ device: { state: 'online' } })
    expect(await client.next(at('state/update/result'))).toMatchObject({
      device: { state: 'unhealthy', lastOnlineTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string }
    })
  })

  test.each([['ONLINE'], ['away'], [7], [undefined]])('anything else is an error to the sender: %j', async state => {
    const { client, twins } = await withDevice()
    await client.send(at('state/update'), { event_id: 'bad', state })
    expect(await client.next(at('state/update/result'))).toEqual({
      event_id: 'bad', timestamp: anyTime, code: 400, reason: expect.stringContaining('online, offline, ok, unknown, unhealthy') as string
    })
    expect(twins.get(id)!.twin.state).toBeUndefined()
  })

  test('as the will of a device', async () => {
    const { client, connect, twins } = await withDevice()
    const dying = await connect([], {
      clientId: 'dying', will: { topic: at('state/update'), payload: Buffer.from('{"event_id":"w","state":"offline"}'), qos: 1, retain: false }
    })
    dying.mqtt.stream.destroy()
    expect(await client.next(at('state/update/result'))).toMatchObject({ event_id: 'w', device: { state: 'offline' } })
    expect(twins.get(id)!.twin.state!.value).toBe('offline')
  })
})

describe('membership', () => {
  const topic = (rest: string, of = node): string => `$hw/events/node/${of}/membership/${rest}`

  test('is told to who asks; a question to another node is not answered', async () => {
    const { client, topics } = await withDevice()
    await client.send(at('state/update'), { state: 'ok' })
    await client.send(topic('get', 'edge-2'), { event_id: 'm0' })
    await client.send(topic('get'), { event_id: 'm1' })
    expect(await client.next(topic('get/result'))).toEqual({
      event_id: 'm1', timestamp: anyTime, devices: [{ id, name: 's1', description: '', state: 'ok' }]
    })
    await client.send(at('state/update'), { state: 'unhealthy' })
    await client.send(topic('get'), { event_id: 'm1' })
    expect(await client.next(topic('get/result'))).toMatchObject({ devices: [{ state: 'unhealthy' }] })
    await client.send(topic('get'), '{"event_id":"m2"')
    expect(await client.next(topic('get/result'))).toMatchObject({ event_id: '', code: 400 })
    expect(topics.requests.get('membership-get other-node')?.count).toBe(1)
    expect(client.messages.some(message => message.topic.includes('edge-2'))).toBe(false)
  })

  test('is told when devices come and go', async () => {
    const { client, receive } = await withDevice()
    await receive({ 'plant/s2': stamped(device('plant/s2', { properties: [{ name: 'on', desired: { value: 'yes' } }] }), past) })
    expect(await client.next(topic('updated'))).toEqual({
      event_id: '', timestamp: anyTime, removed_devices: null, added_devices: [{
        id: 'plant/s2', name: 's2', description: '', state: '',
        twin: { on: { expected: { value: 'yes', metadata: { timestamp: past } }, optional: false, metadata: { type: '' } } }
      }]
    })
    await receive({ 'plant/s2': undefined })
    expect(await client.next(topic('updated'))).toEqual({
      event_id: '', timestamp: anyTime, added_devices: [], removed_devices: [{ id: 'plant/s2', name: 's2', description: '', state: '' }]
    })
    await receive({ [id]: device(id, { uid: 'another' }) })
    expect(await client.next(topic('updated'))).toMatchObject({ added_devices: [{ id }], removed_devices: [{ id }] })
  })

  test('of more devices than one message holds come in parts', async () => {
    const { client, receive } = await withDevice()
    const many = Object.fromEntries(Array.from({ length: 1200 }, (_, i) => `plant/d${i}`).map(each => [each, device(each)]))
    await receive(many)
    const told: unknown[] = []
    while (told.length < 1200) told.push(...(await client.next(topic('updated')))['added_devices'] as unknown[])
    expect(told.length).toBe(1200)
    await client.send(topic('get'), { event_id: 'm' })
    const parts = [await client.next(topic('get/result')), await client.next(topic('get/result')), await client.next(topic('get/result'))]
    expect(parts.map(({ event_id, part, parts: all, devices }) => [event_id, part, all, (devices as unknown[]).length]))
      .toEqual([['m', 1, 3, 500], ['m', 2, 3, 500], ['m', 3, 3, 201]])
  })

  test('a Device that is changed is told of under its own topic', async () => {
    const { client, receive } = await withDevice()
    await receive({ [id]: device(id, { spec: { protocol: { protocolName: 'modbus' } } }) })
    expect(await client.next(at('updated'))).toEqual({ event_id: '', timestamp: anyTime, attributes: {} })
  })
})

describe('the delta', () => {
  const wanting = (value: string, nowMs = past) => stamped(device(id, { properties: [{ name: 'on', desired: { value } }] }), nowMs)
  const delta = { event_id: '', timestamp: anyTime, delta: { on: 'yes' }, twin: {
    on: { expected: { value: 'yes', metadata: { timestamp: past } }, optional: false, metadata: { type: '' } }
  } }

  test('is told when the cloud desires something, and no more when it is reported', async () => {
    const { client, receive, topics } = await withDevice()
    await receive({ [id]: wanting('yes') })
    expect(await client.next(at('twin/update/delta'))).toEqual(delta)
    await client.send(at('twin/update'), { twin: { on: { actual: { value: 'no' } } } })
    await client.send(at('twin/update'), { twin: { other: { actual: { value: '1' } } } })
    expect(topics.deltas.size).toBe(1)
    await client.send(at('twin/update'), { twin: { on: { actual: { value: 'yes' } } } })
    expect(topics.deltas.size).toBe(0)
    await receive({ [id]: wanting('no', past + 1) })
    expect(await client.next(at('twin/update/delta'))).toMatchObject({ delta: { on: 'no' } })
    expect(client.messages.filter(({ topic }) => topic.endsWith('/delta'))).toEqual([])
  })

  test.each(['$hw/events/device/plant/s1/twin/update/delta', '$hw/events/device/plant/s1/#', '$hw/events/device/+/+/twin/update/delta'])(
    'is told to who subscribes late: %s', async filter => {
      const { receive, connect } = await withDevice()
      await receive({ [id]: wanting('yes') })
      const late = await connect([filter])
      expect(await late.next(at('twin/update/delta'))).toEqual(delta)
    })

  test('is told to a device that comes back to its session', async () => {
    const { receive, connect, twins } = await withDevice()
    const session = { clientId: 's1', clean: false }
    const first = await connect([at('twin/update/delta')], session)
    await first.mqtt.endAsync()
    await receive({ [id]: wanting('yes') })
    await until(() => twins.get(id)!.twin.desired.size === 1, 'the value')
    const again = await connect([], session)
    expect(await again.next(at('twin/update/delta'))).toEqual(delta)
  })

  test('of a device of namespace default is told under both of its topics', async () => {
    const { client, receive, connect } = await withDevice()
    await receive({ 'default/plug': stamped(device('default/plug', { properties: [{ name: 'on', desired: { value: 'yes' } }] }), past) })
    expect(await client.next(at('twin/update/delta', 'plug'))).toEqual(delta)
    expect(await client.next(at('twin/update/delta', 'default/plug'))).toEqual(delta)
    const late = await connect([at('twin/update/delta', 'plug')])
    expect(await late.next(at('twin/update/delta', 'plug'))).toEqual(delta)
    expect(late.messages).toEqual([])
  })
})

describe('telemetry', () => {
  test.each([
    [`$ke/events/device/${id}/data/update`, id], ['$hw/events/upload/x', 'node'], ['SYS/dis/upload_records', 'node'], ['a/user/b', 'node']
  ])('%s goes to the Log, its topic kept', async (topic, of) => {
    const { client, outbox } = await withDevice()
    const lane = outbox.lane('telemetry')!
    const update = { event_id: '', timestamp: past, data: { temp: { value: '27', metadata: { timestamp: past, type: 'string' } } } }
    await client.send(topic, update)
    const batches = (await outbox.scan(lane, 0, 2 ** 20)).map(({ bytes }) => Buffer.from(bytes))
    const records = batches.flatMap(bytes => readRecords(bytes, readBatchHeader(bytes)))
    expect(records.map(record => [record.device, record.topic, JSON.parse(record.payload.toString())])).toEqual([[of, topic, update]])
  })
})
