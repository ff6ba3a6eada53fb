import { emptyTwin } from '@holdfast/device-twin'
import type { Twin } from '@holdfast/device-twin'
import { HandClock } from '@holdfast/runtime/testing'
import { describe, expect, test } from 'vitest'
import { DeviceTroubles } from './device-troubles.ts'
import type { DeviceTroublesComponents } from './device-troubles.ts'
import type { MapperProblem } from './mappers/served-device.ts'
import type { DeviceId, DeviceTwin } from './twins/index.ts'
import { twinsLimits } from './twins/limits.ts'
import { device } from './twins/testing/twin-harness.ts'

/** A device that no built-in mapper has, and no other either, unless told. */
interface Given {
  readonly protocol?: string
  readonly twin?: Partial<Twin>
  readonly problems?: readonly MapperProblem[]
  readonly usable?: boolean
  readonly registered?: readonly string[]
  readonly mapperTrouble?: string
  readonly dmi?: 'off'
}

function fixture(given: Given): {
  readonly troubles: DeviceTroubles, readonly held: DeviceTwin, readonly told: string[], readonly clock: HandClock
} {
  const { protocol = 'modbus', twin, problems, usable = true, registered = [], dmi } = given
  const clock = new HandClock(0)
  const told: string[] = []
  const id = 'default/plug' as DeviceId
  const held: DeviceTwin = {
    id, uid: 'u', device: device(id, { spec: { protocol: protocol === '' ? {} : { protocolName: protocol } } }), model: undefined,
    rules: { properties: undefined, listed: new Set(), freshnessMs: 0 } as unknown as DeviceTwin['rules'], twin: { ...emptyTwin, ...twin }
  }
  const components: DeviceTroublesComponents = {
    twins: { all: () => [held], get: () => held, tellTrouble: (_, trouble) => { told.push(trouble) } },
    mappers: { problemsOf: () => problems, serves: () => problems !== undefined && usable },
    dmi: { protocols: [...registered], troubleOf: () => given.mapperTrouble, url: dmi === 'off' ? undefined : 'unix:/x' },
    clock
  }
  return { troubles: new DeviceTroubles(components), held, told, clock }
}

const nobody = 'no mapper for protocol "modbus" has registered on the node'
const problem = (property: string | undefined): MapperProblem => ({ property, reason: 'it is wrong' })

test.each<[string, Given, string | undefined]>([
  ['nobody has its protocol', {}, nobody],
  ['nobody can have', { dmi: 'off' }, `${nobody}, where dmi.mode is off`],
  ['somebody has almost', { registered: ['Modbus'] }, `${nobody}; one has for "Modbus", and case matters`],
  ['it speaks for itself', { twin: { state: { value: 'online', timestamp: 1 } } }, ''],
  ['it names no protocol', { protocol: '' }, ''],
  ['its mapper is well', { registered: ['modbus'], mapperTrouble: '' }, ''],
  ['its mapper is being asked', { registered: ['modbus'] }, undefined],
  ['its mapper is not', { registered: ['modbus'], mapperTrouble: 'it is away' }, 'it is away'],
  ['a built-in mapper is well with it', { problems: [] }, ''],
  ['a built-in mapper is not', { problems: [problem(undefined), problem('a')] }, 'it is wrong; a: it is wrong'],
  ['much is wrong', { problems: ['a', 'b', 'c', 'd', 'e'].map(problem) }, 'a: it is wrong; b: it is wrong; c: it is wrong; and 2 more'],
  ['a built-in mapper can do nothing', { problems: [problem('a')], usable: false }, 'a: it is wrong'],
  ['and another one can', { problems: [problem('a')], usable: false, registered: ['modbus'], mapperTrouble: '' }, '']
])('where %s', (_, given, trouble) => {
  const { troubles, held } = fixture(given)
  expect(troubles.of(held)).toBe(trouble)
})

test('is cut to its bound, and never within a character', () => {
  const { troubles, held } = fixture({ problems: [{ property: undefined, reason: `${'x'.repeat(510)}😀😀` }] })
  expect(troubles.of(held)).toBe(`${'x'.repeat(510)}\ufffd…`)
})

test('has no control characters', () => {
  const { troubles, held } = fixture({ problems: [{ property: undefined, reason: 'a\u0000b\u001b[31m\n' }] })
  expect(troubles.of(held)).toBe('a b [31m ')
})

describe('for who is not on the node', () => {
  const { value: intervalMs } = twinsLimits.troubleIntervalMs

  /** Each look finds what `found` says then. Resolves with what was told of it, look by look. */
  async function toldOf(...found: readonly (string | undefined)[]): Promise<(string | undefined)[]> {
    const given: { registered: string[], mapperTrouble?: string | undefined } = { registered: ['modbus'] }
    const { troubles, told, clock } = fixture(given as Given)
    const stop = new AbortController()
    const running = troubles.run(stop.signal)
    const all: (string | undefined)[] = []
    for (const one of found) {
      given.mapperTrouble = one
      await clock.pass(intervalMs)
      all.push(told.splice(0).at(-1))
    }
    stop.abort(new Error('stop'))
    await running
    return all
  }

  test.each<[string, (string | undefined)[], (string | undefined)[]]>([
    ['what two looks in a row have found is told', ['a', 'a', 'a'], [undefined, 'a', 'a']],
    ['that there is nothing as well', ['', ''], [undefined, '']],
    ['what one look has found is not', ['', '', 'a', '', '', 'a', ''], [undefined, '', '', '', '', '', '']],
    ['nor what is not known', [undefined, undefined, 'a', undefined, 'a', 'a', undefined], [undefined, undefined, undefined, undefined, undefined, 'a', 'a']],
    ['what ends is taken back', ['a', 'a', '', '', 'b', 'b'], [undefined, 'a', 'a', '', '', 'b']],
    ['a text that varies stays the first for a while', ['a', 'b', 'c', 'd'], [undefined, 'b', 'b', 'b']]
  ])('%s', async (_, found, told) => {
    expect(await toldOf(...found)).toEqual(told)
  })

  test('the newest text is told in the end', async () => {
    const looks = twinsLimits.troubleTextMs.value / intervalMs
    const told = await toldOf(...Array.from({ length: looks + 2 }, (_, i) => `text ${i}`))
    expect([...new Set(told)]).toEqual([undefined, 'text 1', `text ${looks + 1}`])
  })

  test('another device by the name begins anew', async () => {
    const { troubles, told, clock, held } = fixture({})
    const stop = new AbortController()
    const running = troubles.run(stop.signal)
    await clock.pass(intervalMs)
    Object.assign(held, { uid: 'another' })
    await clock.pass(intervalMs)
    expect(told).toEqual([])
    await clock.pass(intervalMs)
    expect(told).toEqual([nobody])
    stop.abort(new Error('stop'))
    await running
  })
})
