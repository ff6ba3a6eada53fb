import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeFrame, encodeFrame, encodeStateBatch, stateValueBytesMax } from '@holdfast/protos'
import type { StateBatch, StateFrame } from '@holdfast/protos'
import { ReceiveError } from './receive-error.ts'
import { contentVersion, stateDigest } from './state-digest.ts'
import { StateReader } from './state-reader.ts'
import { newStateStats } from './state-stats.ts'
import { StateWriter } from './state-writer.ts'
import { MemorySource, MemoryTarget } from './testing/memory-state.ts'

const runs = { numRuns: Number(process.env['RUNS'] ?? 300), ...process.env['SEED'] !== undefined &&
  { seed: Number(process.env['SEED']) } }
const names = ['secrets', 'configmaps', 'pods']

/** A session between a source and a target: frames wait in two queues until `turn` takes one over. */
class Session {
  nowMs = 0
  readonly sent: StateFrame[] = []
  readonly told: string[] = []
  readonly writerStats = newStateStats()
  readonly readerStats = newStateStats()
  readonly writer: StateWriter
  readonly reader: StateReader
  readonly #down: Buffer[] = []
  readonly #up: Buffer[] = []

  constructor(source: MemorySource, target: MemoryTarget) {
    this.writer = new StateWriter(source, {
      onReady: () => {}, onWithheld: message => { this.told.push(message) }, stats: this.writerStats
    })
    this.reader = new StateReader(target, {
      onReady: () => {}, onFailed: message => { this.told.push(message) }, stats: this.readerStats
    })
    this.writer.told(this.reader.takeDigests())
    this.reader.verdicts(this.writer.takeVerdicts())
  }

  /** Everything that wants to be sent is on its way. */
  send(): void {
    for (let frame = this.writer.next(this.nowMs)?.frame; frame !== undefined; frame = this.writer.next(this.nowMs)?.frame) {
      this.#push(this.#down, frame)
    }
    for (let frame = this.reader.next(); frame !== undefined; frame = this.reader.next()) this.#push(this.#up, frame)
  }

  /** The oldest frame one way arrives; false where there is none. */
  deliver(way: 'up' | 'down'): boolean {
    this.nowMs += 1
    const bytes = (way === 'up' ? this.#up : this.#down).shift()
    if (bytes === undefined) return false
    const frame = decodeFrame(bytes)
    if (frame.kind === 'state-verdict') this.reader.verdicts(frame.verdicts)
    else if (frame.kind === 'state-changes') this.reader.receive(frame)
    else if (frame.kind === 'state-digest') this.writer.told(frame.digests)
    else if (frame.kind === 'state-inventory') this.writer.inventory(frame)
    else if (frame.kind === 'state-ack') this.writer.acknowledged(frame, this.nowMs)
    return true
  }

  /** Until nothing moves any more. */
  run(): void {
    for (let moved = true; moved;) {
      this.send()
      moved = this.deliver('down')
      moved = this.deliver('up') || moved
    }
  }

  close(): void {
    this.writer.close()
    this.reader.close()
  }

  kinds(): string[] { return this.sent.map(({ kind }) => kind) }

  #push(queue: Buffer[], frame: StateFrame): void {
    this.sent.push(frame)
    queue.push(encodeFrame(frame))
  }
}

function filled(count = 3): MemorySource {
  const source = new MemorySource(names)
  for (const name of names) for (let i = 0; i < count; i++) source.put(name, `default/${name}-${i}`, `${name} ${i}`)
  return source
}

function show(source: MemorySource): Record<string, Record<string, string>> {
  return Object.fromEntries(names.map(name =>
    [name, Object.fromEntries([...source.keysFrom(name, '')].map(([key]) => [key, source.value(name, key)!.toString()]))]))
}

function synced(source: MemorySource): MemoryTarget {
  const target = new MemoryTarget(names)
  const session = new Session(source, target)
  session.run()
  session.close()
  expect(target.show()).toEqual(show(source))
  target.batches.length = 0
  return target
}

test('the digest is that of the specification, in the order of the keys', () => {
  const one = Buffer.concat([Buffer.of(0, 1), Buffer.from('a'), Buffer.of(2), Buffer.from('v1')])
  expect(stateDigest([['a', Buffer.from('v1')]])).toEqual(contentVersion(one))
  expect(stateDigest([])).toEqual(contentVersion(Buffer.alloc(0)))
  expect(() => stateDigest([['b', one], ['a', one]])).toThrow(/comes after/)
  const many = Array.from({ length: 2000 }, (_, i) => [`key-${String(i).padStart(6, '0')}`, Buffer.alloc(16, i)] as const)
  const all = Buffer.concat(many.map(([key, version]) =>
    Buffer.concat([Buffer.of(0, key.length), Buffer.from(key), Buffer.of(version.length), version])))
  expect(stateDigest(many)).toEqual(contentVersion(all))
})

describe('comparing', () => {
  test('a reader without anything gets everything, dependencies first', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    expect(target.show()).toEqual(show(source))
    expect(target.batches.map(({ collection }) => collection)).toEqual(names)
    expect(target.batches.every(batch => batch.synced && batch.position === '9')).toBe(true)
    expect(session.writer.settled).toBe(true)
  })

  test('where nothing differs one digest a collection is exchanged, and no item', () => {
    const source = filled()
    const target = synced(source)
    const session = new Session(source, target)
    session.run()
    expect(session.sent).toEqual([])
    expect(session.readerStats.verdicts).toMatchObject({ equal: 3, differs: 0 })
    expect(session.writer.settled).toBe(true)
  })

  test('only what differs is sent, and what the writer does not have is deleted, last things first', () => {
    const source = filled()
    const target = synced(source)
    source.put('secrets', 'default/secrets-1', 'changed')
    source.put('pods', 'default/new', 'new')
    for (const name of names) source.delete(name, `default/${name}-0`)
    const session = new Session(source, target)
    session.run()
    expect(target.show()).toEqual(show(source))
    expect(target.batches.map(({ collection, puts, deletes }) => [collection, puts.map(({ key }) => key), deletes])).toEqual([
      ['secrets', ['default/secrets-1'], []],
      ['pods', ['default/new'], ['default/pods-0']],
      ['configmaps', [], ['default/configmaps-0']],
      ['secrets', [], ['default/secrets-0']]
    ])
  })

  test('an item that was deleted and made anew under its key is the new one', () => {
    const source = filled()
    const target = synced(source)
    source.delete('pods', 'default/pods-1')
    source.put('pods', 'default/pods-1', 'another uid')
    new Session(source, target).run()
    expect(target.show()['pods']!['default/pods-1']).toBe('another uid')
  })

  test('an older version comes back where the source went back: versions are not ordered', () => {
    const target = synced(filled(5))
    const older = filled(2)
    older.put('pods', 'default/pods-0', 'as it was')
    older.startAt(100)
    new Session(older, target).run()
    expect(target.show()).toEqual(show(older))
  })

  test('a long inventory goes in pages, of which the writer asks for one at a time', () => {
    const source = filled(2500)
    const target = synced(source)
    for (const i of [0, 999, 1000, 1001, 2499]) source.put('pods', `default/pods-${i}`, 'changed')
    source.delete('pods', 'default/pods-1500')
    const session = new Session(source, target)
    session.run()
    expect(target.show()).toEqual(show(source))
    const pages = session.sent.filter(frame => frame.kind === 'state-inventory')
    expect(pages.length).toBeGreaterThan(2)
    expect(session.sent.filter(frame => frame.kind === 'state-verdict').length).toBe(pages.length - 1)
    expect(target.batches.flatMap(({ puts }) => puts).length).toBe(5)
  })

  test('a digest that takes its time follows in a frame of its own', async () => {
    const source = filled()
    const target = new MemoryTarget(names)
    let tell = (_digest: Buffer): void => {}
    const digest = target.digest.bind(target)
    target.digest = name => name === 'configmaps' ? new Promise(resolve => { tell = resolve }) : digest(name)
    const session = new Session(source, target)
    session.run()
    expect(Object.keys(target.show()['configmaps']!)).toEqual([])
    expect(Object.keys(target.show()['pods']!).length).toBe(3)
    tell(stateDigest([]))
    await Promise.resolve()
    session.run()
    expect(target.show()).toEqual(show(source))
  })

  test('where the reader finds something damaged in mid-session, both compare again', () => {
    const source = filled(2500)
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    target.damage('pods', 'default/pods-7')
    session.run()
    expect(target.show()).toEqual(show(source))
    // Again while the inventory of the first time is still coming in.
    target.damage('pods', 'default/pods-8')
    for (let i = 0; i < 5; i++) {
      session.send()
      session.deliver('up')
      session.deliver('down')
    }
    target.damage('pods', 'default/pods-9')
    source.put('pods', 'default/pods-9', 'changed')
    session.run()
    expect(target.show()).toEqual(show(source))
    expect(session.writer.settled).toBe(true)
  })

  test('what changes behind a page that was compared already is sent too', () => {
    const source = filled(2500)
    const target = synced(source)
    for (const name of names) source.put(name, `default/${name}-2499`, 'differs')
    const session = new Session(source, target)
    for (let round = 0; round < 20; round++) {
      session.send()
      // Of the first page, whose turn is over.
      if (session.deliver('up')) {
        source.put('pods', 'default/pods-0', `round ${round}`)
        source.delete('secrets', `default/secrets-${round}`)
      }
      session.deliver('down')
    }
    session.run()
    expect(session.kinds().filter(kind => kind === 'state-inventory').length).toBeGreaterThan(6)
    expect(target.show()).toEqual(show(source))
  })

  test('what is found damaged while the digest is being made is not taken for there', async () => {
    const source = filled()
    const target = synced(source)
    const before = target.digest('pods') as Buffer
    const digest = target.digest.bind(target)
    let tell = (): void => {}
    let asked = 0
    target.digest = name => name !== 'pods' || ++asked > 1 ? digest(name) : new Promise(resolve => { tell = () => { resolve(before) } })
    const session = new Session(source, target)
    session.run()
    target.damage('pods', 'default/pods-1')
    tell()
    await Promise.resolve()
    session.run()
    expect(asked).toBe(2)
    expect(target.show()).toEqual(show(source))
  })

  test('the source learns which other version the reader holds of its keys', () => {
    const source = filled()
    const target = synced(source)
    source.put('pods', 'default/pods-1', 'changed')
    const met: unknown[] = []
    source.met = (...what) => { met.push(what) }
    new Session(source, target).run()
    expect(met).toEqual([['pods', 'default/pods-1', contentVersion(Buffer.from('pods 1'))]])
  })

  test('a digest that cannot be told leaves its collection alone and is reported', async () => {
    const source = filled()
    const target = new MemoryTarget(names)
    const digest = target.digest.bind(target)
    target.digest = name => name === 'secrets' ? Promise.reject(new Error('disk')) : digest(name)
    const session = new Session(source, target)
    await new Promise(resolve => { setImmediate(resolve) })
    session.run()
    expect(session.told).toEqual(['secrets: what is held cannot be told: disk'])
    expect(Object.keys(target.show()['pods']!).length).toBe(3)
  })
})

describe('not knowing is not deleting', () => {
  test('nothing of a collection is sent until its source is ready; the others go on', () => {
    const target = synced(filled())
    const source = new MemorySource(names)
    source.startAt(100)
    source.setReady('secrets', false)
    source.put('pods', 'default/pods-0', 'pods 0')
    const session = new Session(source, target)
    session.run()
    source.put('secrets', 'default/secrets-7', 'a list that is not complete')
    session.run()
    expect(Object.keys(target.show()['secrets']!).length).toBe(3)
    expect(target.show()['pods']).toEqual({ 'default/pods-0': 'pods 0' })
    expect(session.writer.notReady).toEqual(['secrets'])
    expect(session.writerStats.verdicts).toMatchObject({ 'not-ready': 1, differs: 2 })
    source.setReady('secrets', true)
    session.run()
    expect(target.show()).toEqual(show(source))
    expect(session.writer.notReady).toEqual([])
  })

  test('a source behind what the reader has taken in is not ready until it has come so far', () => {
    const before = filled()
    const target = synced(before)
    const lagging = new MemorySource(names)
    lagging.startAt(8)
    const session = new Session(lagging, target)
    session.run()
    expect(target.show()).toEqual(show(before))
    lagging.startAt(9)
    for (const name of names) lagging.setReady(name, true)
    session.run()
    expect(target.show()).toEqual(show(lagging))
  })

  test('a source that is not ready any more stops in mid-session, and goes on', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    source.setReady('pods', false)
    for (let i = 0; i < 3; i++) source.delete('pods', `default/pods-${i}`)
    source.put('secrets', 'default/s', 'goes on')
    session.run()
    expect(Object.keys(target.show()['pods']!).length).toBe(3)
    expect(target.show()['secrets']!['default/s']).toBe('goes on')
    source.put('pods', 'default/pods-1', 'there all the time')
    source.setReady('pods', true)
    session.run()
    expect(target.show()).toEqual(show(source))
  })

  test('a collection that the writer does not know stays as it is', () => {
    const target = new MemoryTarget([...names, 'devices'])
    target.items.get('devices')!.set('default/d', { version: Buffer.from('1'), value: Buffer.from('held') })
    const session = new Session(filled(), target)
    session.run()
    expect(target.show()['devices']).toEqual({ 'default/d': 'held' })
    expect(session.readerStats.verdicts['not-ready']).toBe(1)
  })

  test('what depends on a collection that is being compared waits for it', () => {
    const source = filled()
    const session = new Session(source, new MemoryTarget(names))
    session.send()
    // The inventories of secrets and of what follows are on their way.
    expect(session.kinds()).toEqual(['state-inventory', 'state-inventory', 'state-inventory'])
    session.deliver('up')
    session.send()
    expect(session.kinds().filter(kind => kind === 'state-changes').length).toBe(1)
    session.run()
    expect(session.writer.settled).toBe(true)
  })
})

describe('changing', () => {
  test('a change reaches the reader, with a synced mark and the position', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    source.put('configmaps', 'default/x', 'y')
    session.run()
    expect(target.batches.at(-1)).toMatchObject({ collection: 'configmaps', synced: true, position: '10', deletes: [] })
    expect(target.position('configmaps')).toBe('10')
  })

  test('a key that changes faster than the link is sent less often, the newest value last', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    const before = target.batches.length
    target.immediate = false
    for (let i = 0; i < 1000; i++) {
      source.put('pods', 'default/busy', `${i} ${'x'.repeat(2000 + i % 7)}${Math.sin(i)}`)
      session.send()
      session.deliver('down')
    }
    while (target.waiting.length > 0) {
      target.settle()
      session.run()
    }
    expect(target.show()).toEqual(show(source))
    expect(target.batches.length - before).toBeLessThan(700)
  })

  test('at most the window is unacknowledged', () => {
    const source = new MemorySource(names)
    for (let i = 0; i < 400; i++) source.put('pods', `default/p${i}`, noise(8192, i))
    const target = new MemoryTarget(names)
    target.immediate = false
    const session = new Session(source, target)
    session.run()
    const bytes = session.writerStats.bytes
    expect(bytes).toBeGreaterThanOrEqual(512 * 1024)
    expect(bytes).toBeLessThanOrEqual(512 * 1024 + 256 * 1024)
    while (target.waiting.length > 0) {
      target.settle()
      session.run()
    }
    expect(target.show()).toEqual(show(source))
    expect(target.batches.every(({ puts }) => puts.length <= 32)).toBe(true)
  })

  test('a large item goes in parts, and on a slow link in small ones', () => {
    const source = new MemorySource(names)
    source.put('pods', 'default/large', noise(1024 * 1024, 1))
    const session = new Session(source, new MemoryTarget(names))
    let parts = 0
    for (let i = 0; i < 10_000 && !session.writer.settled; i++) {
      session.send()
      // A part a second: 16 KiB/s.
      session.nowMs += 1000
      if (session.deliver('down')) parts++
      session.deliver('up')
      expect(session.writer.inFlightBytes).toBeLessThanOrEqual(48 * 1024)
    }
    expect(session.writer.settled).toBe(true)
    expect(parts).toBeGreaterThanOrEqual(64)
    expect(session.sent.every(frame => frame.kind !== 'state-changes' || frame.data.length <= 16 * 1024)).toBe(true)
  })

  test('an item of the largest value arrives', () => {
    const source = new MemorySource(names)
    source.put('secrets', 'default/s', noise(stateValueBytesMax, 2))
    const target = new MemoryTarget(names)
    new Session(source, target).run()
    expect(target.items.get('secrets')!.get('default/s')!.value.equals(source.value('secrets', 'default/s')!)).toBe(true)
  })

  test('what is out of bounds is kept back and said; the rest goes on', () => {
    const source = filled()
    source.put('pods', 'default/too large', 'a space')
    source.put('pods', 'default/huge', Buffer.alloc(stateValueBytesMax + 1))
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    expect(Object.keys(target.show()['pods']!)).toEqual(['default/pods-0', 'default/pods-1', 'default/pods-2'])
    expect(session.writerStats.withheld).toBe(2)
    expect(session.told.join()).toMatch(/its value has 3145729 bytes.*its key is malformed/)
  })

  test('thousands of small changes arrive within a few batches, compressed', () => {
    const source = filled(0)
    const target = new MemoryTarget(names)
    const session = new Session(source, target)
    session.run()
    for (let i = 0; i < 5000; i++) source.put('configmaps', `default/c${i}`, `{"data":{"number":"${i}"}}`)
    session.run()
    expect(target.items.get('configmaps')!.size).toBe(5000)
    expect(target.batches.length).toBeLessThanOrEqual(5)
    expect(session.writerStats.bytes).toBeLessThan(5000 * 50)
  })

  test('a source is listened to for as long as the session lasts', () => {
    const source = filled()
    const session = new Session(source, new MemoryTarget(names))
    expect(source.listeners).toBe(1)
    session.close()
    expect(source.listeners).toBe(0)
  })
})

describe('a reader that cannot hold something', () => {
  test('applies nothing of that batch and nothing behind it, and tells the writer, who rests', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    target.check = ({ collection }) => { if (collection === 'configmaps') throw new Error('item "default/x" is too much') }
    const session = new Session(source, target)
    session.run()
    source.put('secrets', 'default/late', 'never sent')
    session.run()
    expect(target.batches.map(({ collection }) => collection)).toEqual(['secrets'])
    expect(session.writer.refused).toBe('configmaps: item "default/x" is too much')
    expect(session.reader.refused).toBe(session.writer.refused)
    expect(session.writerStats.refusals).toBe(1)
    expect(session.readerStats.refusals).toBe(1)
    target.check = () => {}
    new Session(source, target).run()
    expect(target.show()).toEqual(show(source))
  })

  test('what is settled after the session is over reaches nobody', () => {
    const source = filled()
    const target = new MemoryTarget(names)
    target.immediate = false
    const session = new Session(source, target)
    session.run()
    session.close()
    while (target.waiting.length > 0) target.settle()
    expect(session.reader.next()).toBeUndefined()
  })
})

describe('a peer that does not keep to the rules', () => {
  const version = Buffer.from('v')
  const batch = (of: Partial<StateBatch>): StateBatch => ({ collection: 'pods', puts: [], deletes: [], synced: false, position: '', ...of })
  const frameOf = (sequence: number, body: Buffer, rawLength = 0) =>
    ({ kind: 'state-changes', sequence, bodyLength: body.length, rawLength, position: 0, data: body }) as const
  const readerAfter = (verdict: 'equal' | 'not-ready'): StateReader => {
    const reader = new StateReader(new MemoryTarget(names), { onReady: () => {}, onFailed: () => {}, stats: newStateStats() })
    reader.takeDigests()
    reader.verdicts([{ collection: 'pods', verdict, after: '' }])
    return reader
  }
  const refusal = (work: () => void): string => {
    try {
      work()
      return 'taken'
    } catch (error) {
      expect(error).toBeInstanceOf(ReceiveError)
      return (error as ReceiveError).code
    }
  }

  test('changes before a verdict, or after not-ready, are not applied', () => {
    const put = frameOf(1, encodeStateBatch(batch({ puts: [{ key: 'a', version, value: version }] })))
    expect(refusal(() => { readerAfter('equal').receive(put) })).toBe('taken')
    expect(refusal(() => { readerAfter('not-ready').receive(put) })).toBe('FRAME_UNEXPECTED')
    const other = frameOf(1, encodeStateBatch(batch({ collection: 'secrets' })))
    expect(refusal(() => { readerAfter('equal').receive(other) })).toBe('FRAME_UNEXPECTED')
  })

  test('a hole, a repeated batch and parts that do not fit are found', () => {
    const body = encodeStateBatch(batch({ deletes: ['a'] }))
    expect(refusal(() => { readerAfter('equal').receive(frameOf(2, body)) })).toBe('STATE_SEQUENCE')
    const reader = readerAfter('equal')
    reader.receive(frameOf(1, body))
    expect(refusal(() => { reader.receive(frameOf(1, body)) })).toBe('STATE_SEQUENCE')
    const part = { ...frameOf(2, body), data: body.subarray(0, 3) }
    reader.receive(part)
    for (const wrong of [part, { ...part, position: 4 }, { ...part, position: 3, bodyLength: 90 }, { ...part, position: 3, rawLength: 7 }]) {
      expect(refusal(() => { reader.receive(wrong) })).toBe('STATE_SEQUENCE')
    }
  })

  test('bodies that are no batch, or not as long as they say, are refused', () => {
    const body = encodeStateBatch(batch({ deletes: ['a'] }))
    expect(refusal(() => { readerAfter('equal').receive(frameOf(1, Buffer.from('nonsense'))) })).toBe('FRAME_MALFORMED')
    expect(refusal(() => { readerAfter('equal').receive(frameOf(1, body, 1000)) })).toBe('FRAME_MALFORMED')
  })

  test('a writer that does not wait for acknowledgements is stopped', () => {
    const target = new MemoryTarget(names)
    target.immediate = false
    const reader = new StateReader(target, { onReady: () => {}, onFailed: () => {}, stats: newStateStats() })
    reader.takeDigests()
    reader.verdicts([{ collection: 'pods', verdict: 'equal', after: '' }])
    const body = encodeStateBatch(batch({ puts: [{ key: 'a', version, value: Buffer.alloc(1024 * 1024) }] }))
    const codes = Array.from({ length: 20 }, (_, i) => refusal(() => { reader.receive(frameOf(i + 1, body)) }))
    expect(codes.indexOf('STATE_WINDOW_EXCEEDED')).toBe(15)
  })

  test('verdicts, pages, digests and acknowledgements that nobody asked for are refused', () => {
    const reader = readerAfter('equal')
    expect(refusal(() => { reader.verdicts([{ collection: 'devices', verdict: 'equal', after: '' }]) })).toBe('FRAME_UNEXPECTED')
    const writer = new StateWriter(filled(), { onReady: () => {}, onWithheld: () => {}, stats: newStateStats() })
    const page = { kind: 'state-inventory', collection: 'pods', after: '', entries: [], last: true } as const
    expect(refusal(() => { writer.inventory(page) })).toBe('FRAME_UNEXPECTED')
    const digests = [{ collection: 'pods', digest: stateDigest([]), position: '' }]
    writer.told(digests)
    expect(refusal(() => { writer.inventory({ ...page, collection: 'devices' }) })).toBe('FRAME_UNEXPECTED')
    const ack = { kind: 'state-ack', sequence: 0, receivedBytes: 0, refused: '' } as const
    expect(refusal(() => { writer.acknowledged({ ...ack, sequence: 1 }, 0) })).toBe('FRAME_UNEXPECTED')
    expect(refusal(() => { writer.acknowledged({ ...ack, receivedBytes: 1 }, 0) })).toBe('FRAME_UNEXPECTED')
    expect(refusal(() => { writer.acknowledged(ack, 0) })).toBe('taken')
  })
})

test('whatever changes, is cut off or is not ready in between, both sides are equal in the end (L6)', () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'ns/f', 'ns/g')
  const name = fc.constantFrom(...names)
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), name, key, value: fc.nat(5) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), name, key }) },
    { weight: 10, arbitrary: fc.record({ kind: fc.constant('deliver' as const), way: fc.constantFrom('up' as const, 'down' as const) }) },
    { weight: 4, arbitrary: fc.constant({ kind: 'send' as const }) },
    { weight: 4, arbitrary: fc.constant({ kind: 'settle' as const }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('ready' as const), name, ready: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('damage' as const), name, key }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'reconnect' as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) }
  )
  fc.assert(fc.property(fc.array(step, { maxLength: 120 }), steps => {
    let source = new MemorySource(names)
    const target = new MemoryTarget(names)
    target.immediate = false
    const notReady = new Set<string>()
    target.check = batch => {
      for (const { version, value } of batch.puts) expect(contentVersion(value).equals(version)).toBe(true)
    }
    let session = new Session(source, target)
    const reconnect = (): void => {
      session.close()
      // What was handed over before is settled before the digest is asked for (StateTarget.digest).
      while (target.waiting.length > 0) target.settle()
      session = new Session(source, target)
    }
    for (const each of steps) {
      switch (each.kind) {
        case 'put': source.put(each.name, each.key, `value ${each.value}`); break
        case 'delete': source.delete(each.name, each.key); break
        case 'deliver': session.deliver(each.way); break
        case 'send': session.send(); break
        case 'settle': target.settle(); break
        case 'ready': {
          source.setReady(each.name, each.ready)
          if (each.ready) notReady.delete(each.name)
          else notReady.add(each.name)
          break
        }
        case 'damage': target.damage(each.name, each.key); break
        case 'reconnect': reconnect(); break
        case 'restart': {
          // The writer's process begins anew: it knows nothing until it has listed.
          const held = show(source)
          const changes = Number(source.position(''))
          source = new MemorySource(names)
          for (const each2 of names) { source.setReady(each2, false); notReady.add(each2) }
          reconnect()
          const counts = names.map(each2 => target.items.get(each2)!.size)
          session.run()
          expect(names.map(each2 => target.items.get(each2)!.size)).toEqual(counts)
          for (const [each2, items] of Object.entries(held)) for (const [k, v] of Object.entries(items)) source.put(each2, k, v)
          source.startAt(changes + 1)
          break
        }
      }
    }
    for (const each of names) source.setReady(each, true)
    for (let i = 0; i < 1000 && !session.writer.settled; i++) {
      session.run()
      target.settle()
    }
    expect(session.writer.settled).toBe(true)
    expect(target.show()).toEqual(show(source))
  }), runs)
})

/** Bytes that do not compress. */
function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = seed * 2_654_435_761 + 1
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    bytes[i] = state >>> 24
  }
  return bytes
}
