import { formatVersion, writerOf } from '@holdfast/device-twin'
import type { Version } from '@holdfast/device-twin'
import { HoldfastError } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { describe, expect, onTestFinished, test } from 'vitest'
import { GatedStore } from '../testing/device-api-fixture.ts'
import { TwinRefused } from './device-twins.ts'
import type { DeviceId, TwinChange } from './device-twins.ts'
import { decodeStoredTwin, twinKey } from './twin-format.ts'
import {
  desired, device, deviceModel, durable, hash, openTwins, reported, stamped, startMs, valuesOf, writesOf
} from './testing/twin-harness.ts'
import type { TwinsHarness, TwinsHarnessOptions } from './testing/twin-harness.ts'

/** For machines that have much else to do. */
const patiently = { timeout: 15_000 }

const id = 'default/plug' as DeviceId

interface Fixture extends TwinsHarness {
  readonly store: GatedStore
  readonly clock: HandClock
  /** What subscribers were told since, and no more after. */
  readonly told: () => TwinChange[]
}

async function open(store = new GatedStore(), options: Partial<TwinsHarnessOptions> = {}): Promise<Fixture> {
  const clock = options.clock as HandClock | undefined ?? new HandClock(startMs)
  const harness = await openTwins(store, { clock, ...options })
  onTestFinished(() => harness[Symbol.asyncDispose]())
  const changes: TwinChange[] = []
  harness.twins.subscribe(change => { changes.push(change) })
  return { ...harness, store, clock, told: () => changes.splice(0) }
}

const power = (value: string, more: object = {}) => ({ properties: [{ name: 'power', desired: { value } }], ...more })

/** A Device whose one desired value has this version. */
function versioned(value: string, version: Version, more: { replaces?: Version, deleted?: true } = {}) {
  const { replaces, deleted } = more
  const stamp = {
    version: formatVersion(version), ...deleted === undefined ? { hash: hash(value) } : { deleted },
    ...replaces !== undefined && { replaces: formatVersion(replaces) }
  }
  return device(id, {
    annotations: { 'holdfast.dev/desired': JSON.stringify({ power: stamp }) }, ...deleted === undefined ? power(value) : {}
  })
}

const cloudVersion = (time: number, counter = 0): Version => ({ time, counter, origin: 'cloud/00000001' })

describe('devices', () => {
  test('a Device that comes down is a device here, with what it desires', async () => {
    const { twins, receive, told } = await open()
    expect(twins.get(id)).toBeUndefined()
    expect(() => twins.write(id, reported({ power: true }), 'http')).toThrow(
      expect.objectContaining({ code: 'TWIN_DEVICE_UNKNOWN', message: expect.stringContaining('default/plug') as string }))
    await receive({ [id]: stamped(device(id, power('on'))) })
    expect(twins.size).toBe(1)
    expect(valuesOf(twins, id, 'desired')).toEqual({ power: 'on' })
    expect(told()).toMatchObject([{ id, before: undefined, desired: ['power'], reported: [], specChanged: true }])
  })

  test('one without desired values is there at once, and stores nothing', async () => {
    const { twins, receive, committer } = await open()
    await receive({ [id]: device(id) })
    expect([...twins.all()].map(held => held.id)).toEqual([id])
    const { commits } = committer.stats
    await committer.flush()
    expect(committer.stats.commits).toBe(commits)
  })

  test('they come in the order of their ids', async () => {
    const { twins, receive } = await open()
    const ids = ['b/x', 'a/z', 'a/a', 'default/plug']
    await receive(Object.fromEntries(ids.map(each => [each, device(each)])))
    expect([...twins.all()].map(held => held.id)).toEqual(ids.toSorted())
  })

  test('one that goes takes its twin with it; writes to it are refused from the moment on that it went', async () => {
    const { twins, receive, table, told, clock, committer } = await open()
    await receive({ [id]: stamped(device(id, power('on'))) })
    twins.write(id, reported({ power: 'on' }), 'mqtt')
    await clock.pass(1000)
    await committer.flush()
    expect(table.upItem('twins', id)).toBeDefined()
    told()
    await receive({ [id]: undefined })
    expect(twins.get(id)).toBeUndefined()
    expect(twins.size).toBe(0)
    expect(() => twins.write(id, reported({ power: 'on' }), 'http')).toThrow(expect.objectContaining({ code: 'TWIN_DEVICE_UNKNOWN' }))
    expect(table.upItem('twins', id)).toBeUndefined()
    expect(told()).toMatchObject([{ id, after: undefined, desired: ['power'], reported: ['power'] }])
  })

  test('TWN-36: another uid is another device, to which nothing of the old one belongs', async () => {
    const { twins, receive, told, table } = await open()
    await receive({ [id]: stamped(device(id, power('on'))) })
    await durable(twins.write(id, reported({ power: 'on', energy: 3 }), 'mqtt'))
    told()
    await receive({ [id]: stamped(device(id, { ...power('off'), uid: 'another' })) })
    expect(valuesOf(twins, id, 'reported')).toEqual({})
    expect(valuesOf(twins, id, 'desired')).toEqual({ power: 'off' })
    expect(told()).toMatchObject([{ before: { uid: 'uid-default/plug' }, after: { uid: 'another' }, desired: ['power'], specChanged: true }])
    expect(JSON.parse(table.upItem('twins', id)!.value.toString())).toMatchObject({
      apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { namespace: 'default', name: 'plug', uid: 'another' },
      twin: { reported: {} }
    })
  })

  test('TWN-36: so it is where nothing is desired of the new one', async () => {
    const { twins, receive, store } = await open()
    await receive({ [id]: device(id) })
    await durable(twins.write(id, reported({ power: 'on' }), 'mqtt'))
    await receive({ [id]: device(id, { uid: 'another' }) })
    expect(twins.get(id)).toMatchObject({ uid: 'another', twin: { revision: 0 } })
    const key = twinKey(id)
    expect(decodeStoredTwin(key, (await store.get(key))!)).toMatchObject({ uid: 'another', twin: { revision: 0 } })
  })

  test('gone and back in one turn is a new device', async () => {
    const { twins, receive, table, told } = await open()
    await receive({ [id]: device(id) })
    await durable(twins.write(id, reported({ power: 'on' }), 'mqtt'))
    told()
    await Promise.all([receive({ [id]: undefined }), receive({ [id]: device(id, { uid: 'another' }) })])
    expect(twins.get(id)).toMatchObject({ uid: 'another' })
    expect(valuesOf(twins, id, 'reported')).toEqual({})
    expect(String(table.upItem('twins', id)?.value)).not.toContain('"on"')
    expect(told().at(-1)).toMatchObject({ after: { uid: 'another' } })
  })

  test('a model gives the rules, when it comes, changes and goes', async () => {
    const { twins, receive, told } = await open()
    await receive({ [id]: device(id, { model: 'm' }) })
    await durable(twins.write(id, reported({ level: 'high' }), 'mqtt'))
    told()
    await receive({ 'default/m': deviceModel('default/m', [{ name: 'level', type: 'INT', accessMode: 'ReadWrite', maximum: '10' }]) })
    expect(twins.get(id)?.rules.properties?.get('level')).toMatchObject({ type: 'INT', maximum: 10 })
    expect(told()).toMatchObject([{ id, specChanged: true, desired: [], reported: [] }])
    expect(() => twins.write(id, reported({ level: 'high' }), 'mqtt')).toThrow(TwinRefused)
    await durable(twins.write(id, reported({ level: '7' }), 'mqtt'))
    expect(valuesOf(twins, id, 'reported')).toEqual({ level: 7 })
    await receive({ 'default/m': deviceModel('default/m', [{ name: 'level', type: 'INT', accessMode: 'ReadWrite', maximum: '5' }]) })
    expect(valuesOf(twins, id, 'reported')).toEqual({ level: 7 })
    await receive({ 'default/m': undefined })
    expect(twins.get(id)).toMatchObject({ model: undefined, rules: { properties: undefined } })
  })

  test('what a Device says besides desired values is told as its spec', async () => {
    const { twins, receive, told } = await open()
    const before = stamped(device(id, power('on')))
    await receive({ [id]: before })
    told()
    await receive({ [id]: stamped(device(id, power('off')), startMs + 1) })
    expect(told()).toMatchObject([{ desired: ['power'], specChanged: false }])
    await receive({ [id]: stamped(device(id, { ...power('off'), spec: { protocol: { protocolName: 'mqtt' } } }), startMs + 1) })
    expect(told()).toMatchObject([{ desired: [], specChanged: true }])
    expect(twins.get(id)?.device['spec']).toMatchObject({ protocol: { protocolName: 'mqtt' } })
    // The word is free elsewhere.
    const configData = (text: string) => ({ ...power('off'), spec: { protocol: { protocolName: 'mqtt', configData: { desired: text } } } })
    await receive({ [id]: stamped(device(id, configData('a')), startMs + 1) })
    told()
    await receive({ [id]: stamped(device(id, configData('b')), startMs + 1) })
    expect(told()).toMatchObject([{ specChanged: true }])
  })
})

describe('writes', () => {
  test('L1: a report is visible and told when it is durable', async () => {
    const { twins, receive, store, told } = await open()
    await receive({ [id]: device(id) })
    told()
    store.mode = 'hold'
    const writing = twins.write(id, reported({ power: true }), 'mqtt')
    expect(writing).toMatchObject({ kind: 'stored', stale: [] })
    expect(valuesOf(twins, id, 'reported')).toEqual({})
    expect(told()).toEqual([])
    store.release()
    await durable(writing)
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: true })
    expect(told()).toMatchObject([{ id, reported: ['power'], desired: [], stateChanged: false, specChanged: false }])
  })

  test('L1: a Device that changes meanwhile shows nothing early, and takes nothing away', async () => {
    const { twins, receive, store, told, committer } = await open()
    await receive({ [id]: device(id) })
    told()
    store.mode = 'hold'
    const received = receive({ [id]: device(id, { spec: { protocol: { protocolName: 'mqtt' } } }) })
    await expect.poll(() => store.held, patiently).toBe(1)
    const writing = twins.write(id, reported({ power: true }), 'mqtt')
    store.release()
    store.mode = 'hold'
    await expect.poll(() => store.held, patiently).toBe(1)
    // The Device is durable, the report that was under way with it is not.
    expect([valuesOf(twins, id, 'reported'), told()]).toEqual([{}, []])
    store.release()
    await Promise.all([received, durable(writing)])
    await committer.flush()
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: true })
    expect(told()).toMatchObject([{ reported: ['power'], specChanged: false }, { reported: [], specChanged: true }])
  })

  test('L1: a report and a Device that settle with one commit, and a report in answer to it', async () => {
    const { twins, receive, store, told, committer, clock } = await open()
    const other = 'default/other' as DeviceId
    await receive({ [id]: device(id), [other]: device(other) })
    told()
    twins.subscribe(({ id: changed, reported: names }) => {
      if (changed === id && names.length > 0 && valuesOf(twins, id, 'reported')!['power'] === 1) twins.write(id, reported({ power: 2 }), 'mapper')
    })
    store.mode = 'hold'
    twins.write(other, reported({ power: 0 }), 'mqtt')
    await expect.poll(() => store.held, patiently).toBe(1)
    const received = receive({ [id]: device(id, { spec: { protocol: { protocolName: 'mqtt' } } }) })
    // Until the batch has been gathered, behind the write that is under way.
    await clock.pass(0)
    twins.write(id, reported({ power: 1 }), 'mqtt')
    store.release()
    await received
    await committer.flush()
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: 2 })
    expect(told().map(({ id: changed, reported: names, specChanged }) => [changed, names, specChanged])).toEqual([
      [other, ['power'], false], [id, ['power'], false], [id, ['power'], true]
    ])
    const key = twinKey(id)
    expect(decodeStoredTwin(key, (await store.get(key))!)!.twin.reported.get('power')!.value).toBe(2)
  })

  test('a write is decided on what was written before it, durable or not', async () => {
    const { twins, receive, store, told } = await open()
    await receive({ [id]: device(id) })
    told()
    store.mode = 'hold'
    const first = twins.write(id, reported({ power: 1 }), 'mqtt')
    const second = twins.write(id, { section: 'reported', writes: writesOf({ power: 2 }), expectedRevision: first.after.twin.revision }, 'http')
    const again = twins.write(id, reported({ power: 2 }), 'mqtt')
    expect([first.kind, second.kind, again.kind]).toEqual(['stored', 'stored', 'unchanged'])
    expect(() => twins.write(id, { section: 'reported', writes: writesOf({ power: 3 }), expectedRevision: first.after.twin.revision }, 'http'))
      .toThrow(expect.objectContaining({ code: 'TWIN_CONFLICT' }))
    // What says that nothing is different waits for the writer who made it so.
    let isAcknowledged = false
    const acknowledged = durable(again).then(() => { isAcknowledged = true })
    await Promise.resolve()
    expect(isAcknowledged).toBe(false)
    store.release()
    await acknowledged
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: 2 })
    expect(told()).toMatchObject([{ reported: ['power'] }])
  })

  test('TWN-20: what is there already costs nothing, however often it is said', async () => {
    const { twins, receive, committer } = await open()
    await receive({ [id]: device(id) })
    await durable(twins.write(id, reported({ power: 'on', level: 3 }), 'mqtt'))
    const { commits, bytes } = committer.stats
    const again = reported({ power: 'on', level: 3 })
    let waiting = 0
    for (let n = 0; n < 100_000; n++) if (twins.write(id, again, 'mqtt').commit !== undefined) waiting++
    expect(waiting).toBe(0)
    await committer.flush()
    expect(committer.stats).toMatchObject({ commits, bytes })
  })

  test('10,000 writes of one turn are one commit, and one twin in it', async () => {
    const { twins, receive, committer, clock } = await open()
    await receive({ [id]: device(id) })
    await clock.pass(2000)
    await committer.flush()
    const { commits, bytes } = committer.stats
    const writings = Array.from({ length: 10_000 }, (_, n) => twins.write(id, reported({ power: n }), 'mqtt'))
    await durable(writings.at(-1)!)
    expect(committer.stats.commits).toBe(commits + 1)
    expect(committer.stats.bytes - bytes).toBeLessThan(2000)
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: 9999 })
  })

  test('reported and desired of one message are stored together or not at all', async () => {
    const { twins, receive } = await open()
    await receive({ [id]: device(id, { model: 'm' }), 'default/m': deviceModel('default/m', [
      { name: 'power', type: 'STRING', accessMode: 'ReadWrite' }, { name: 'level', type: 'INT', accessMode: 'ReadOnly' }
    ]) })
    const both = (want: Record<string, string>) => twins.write(id, {
      section: 'both', reported: writesOf({ power: 'on' }), desired: writesOf(want)
    }, 'mqtt')
    expect(() => both({ level: '3' })).toThrow(expect.objectContaining({ code: 'TWIN_READ_ONLY' }))
    expect(twins.get(id)!.twin.revision).toBe(0)
    await durable(both({ power: 'off' }))
    expect([valuesOf(twins, id, 'reported'), valuesOf(twins, id, 'desired')]).toEqual([{ power: 'on' }, { power: 'off' }])
    expect(writerOf(twins.get(id)!.twin.desired.get('power')!.version)).toBe('edge-1')
  })

  test('a state is stored with its time, and told', async () => {
    const { twins, receive, told, clock } = await open()
    await receive({ [id]: device(id) })
    told()
    clock.nowMs += 5000
    await durable(twins.write(id, { section: 'state', state: 'online', timestamp: startMs + 1000 }, 'mqtt'))
    expect(twins.get(id)!.twin.state).toEqual({ value: 'online', timestamp: startMs + 1000 })
    expect(told()).toMatchObject([{ stateChanged: true, reported: [] }])
    expect(twins.write(id, { section: 'state', state: 'online' }, 'mqtt').kind).toBe('unchanged')
  })

  test('TWN-22: what is older than what is stored is not applied, but where the clock is not trusted', async () => {
    let trusts = true
    const { twins, receive, clock } = await open(undefined, { trusted: () => trusts })
    await receive({ [id]: device(id) })
    clock.nowMs += 10_000
    await durable(twins.write(id, reported({ power: 1 }, startMs + 5000), 'mqtt'))
    expect(twins.write(id, reported({ power: 2 }, startMs + 4000), 'mqtt')).toMatchObject({ kind: 'unchanged', stale: ['power'] })
    trusts = false
    await durable(twins.write(id, reported({ power: 2 }, startMs + 4000), 'mqtt'))
    expect(twins.get(id)!.twin.reported.get('power')).toMatchObject({ value: 2, timestamp: clock.nowMs })
    clock.nowMs = 1000
    await durable(twins.write(id, reported({ power: 3 }, 500), 'mqtt'))
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: 3 })
    expect(twins.stats.staleProperties).toBe(1)
  })

  test('TWN-22: so it is with a state', async () => {
    let trusts = true
    const { twins, receive, clock } = await open(undefined, { trusted: () => trusts })
    await receive({ [id]: device(id) })
    clock.nowMs += 10_000
    await durable(twins.write(id, { section: 'state', state: 'online', timestamp: startMs + 5000 }, 'mqtt'))
    expect(twins.write(id, { section: 'state', state: 'offline', timestamp: startMs + 4000 }, 'mqtt').kind).toBe('unchanged')
    expect(twins.stats.staleProperties).toBe(1)
    trusts = false
    await durable(twins.write(id, { section: 'state', state: 'offline', timestamp: startMs + 4000 }, 'mqtt'))
    expect(twins.get(id)!.twin.state).toEqual({ value: 'offline', timestamp: clock.nowMs })
  })

  test('what is refused is counted by its code', async () => {
    const { twins, receive } = await open()
    await receive({ [id]: device(id) })
    expect(() => twins.write(id, reported({ '': 1 }), 'dmi')).toThrow(TwinRefused)
    expect(twins.stats.refused).toEqual(new Map([['TWIN_PROPERTY', 1]]))
    expect([...twins.stats.writes.values()]).toEqual([{ section: 'reported', source: 'dmi', outcome: 'refused', count: 1 }])
  })

  test('a full disk refuses what would have to be stored, and nothing else', async () => {
    const { twins, receive } = await open()
    await receive({ [id]: device(id) })
    await durable(twins.write(id, reported({ power: 1 }), 'mqtt'))
    twins.refuse(new HoldfastError('DISK_FULL', 'no room'))
    expect(() => twins.write(id, reported({ power: 2 }), 'mqtt')).toThrow(expect.objectContaining({ code: 'DISK_FULL' }))
    expect(twins.write(id, reported({ power: 1 }), 'mqtt').kind).toBe('unchanged')
    twins.refuse(undefined)
    await durable(twins.write(id, reported({ power: 2 }), 'mqtt'))
    expect(valuesOf(twins, id, 'reported')).toEqual({ power: 2 })
  })
})

describe('versions', () => {
  test('TWN-11: a write here is later than what came from the cloud, whatever the clock says', async () => {
    const { twins, receive } = await open()
    await receive({ [id]: versioned('on', cloudVersion(startMs + 60_000, 7)) })
    await durable(twins.write(id, desired({ power: 'off' }), 'http'))
    expect(twins.get(id)!.twin.desired.get('power')!.version).toMatchObject({ time: startMs + 60_000, counter: 8 })
    await receive({ [id]: versioned('on', cloudVersion(startMs + 60_000, 7)) })
    expect(valuesOf(twins, id, 'desired')).toEqual({ power: 'off' })
    await receive({ [id]: versioned('dim', cloudVersion(startMs + 60_000, 9)) })
    expect(valuesOf(twins, id, 'desired')).toEqual({ power: 'dim' })
  })

  test('TWN-11: without a trusted clock the counter ticks from the highest version that is known, over restarts', async () => {
    const store = new GatedStore()
    const first = await open(store)
    await first.receive({ [id]: versioned('on', cloudVersion(startMs, 3)) })
    await first[Symbol.asyncDispose]()
    for (const [n, wallMs] of [5000, startMs + 60_000].entries()) {
      const { twins } = await open(store, { clock: new HandClock(wallMs), trusted: () => false, seed: 2 + n })
      await durable(twins.write(id, desired({ power: n }), 'http'))
      expect(twins.get(id)!.twin.desired.get('power')!.version).toMatchObject({ time: startMs, counter: 4 + n })
    }
  })

  test('TWN-16: what the cloud stamps anew takes the place of the version from the future, which pulls the clock no more', async () => {
    const { twins, receive, clock } = await open()
    await receive({ [id]: device(id) })
    clock.nowMs = startMs + 3_600_000
    await durable(twins.write(id, desired({ power: 'on' }), 'http'))
    const future = twins.get(id)!.twin.desired.get('power')!.version
    clock.nowMs = startMs
    await receive({ [id]: versioned('on', cloudVersion(startMs, 1), { replaces: future }) })
    expect(twins.get(id)!.twin.desired.get('power')!.version).toEqual(cloudVersion(startMs, 1))
    await durable(twins.write(id, desired({ power: 'off' }), 'http'))
    expect(twins.get(id)!.twin.desired.get('power')!.version).toMatchObject({ time: startMs, counter: 2 })
  })

  test('a value that is not stamped is not taken', async () => {
    const { twins, receive } = await open()
    await receive({ [id]: device(id, power('on')) })
    expect(valuesOf(twins, id, 'desired')).toEqual({})
  })

  test('a tombstone takes the desired value away', async () => {
    const { twins, receive, told } = await open()
    await receive({ [id]: versioned('on', cloudVersion(startMs)) })
    told()
    await receive({ [id]: versioned('', cloudVersion(startMs + 1), { deleted: true }) })
    expect(valuesOf(twins, id, 'desired')).toEqual({})
    expect(told()).toMatchObject([{ desired: ['power'] }])
  })
})
