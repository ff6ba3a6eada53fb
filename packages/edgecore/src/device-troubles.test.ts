import { emptyTwin } from '@holdfast/device-twin'
import type { Twin } from '@holdfast/device-twin'
import { expect, test } from 'vitest'
import { HandClock } from '@holdfast/runtime/testing'
import { DeviceTroubles } from './device-troubles.ts'
import type { DeviceTroublesComponents } from './device-troubles.ts'
import type { MapperProblem } from './mappers/served-device.ts'
import type { DeviceId, DeviceTwin } from './twins/index.ts'
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

function fixture({ protocol = 'modbus', twin, problems, usable = true, registered = [], mapperTrouble, dmi }: Given): {
  readonly troubles: DeviceTroubles, readonly held: DeviceTwin, readonly told: unknown[], readonly clock: HandClock
} {
  const clock = new HandClock(0)
  const told: unknown[] = []
  const id = 'default/plug' as DeviceId
  const held: DeviceTwin = {
    id, uid: 'u', device: device(id, { spec: { protocol: protocol === '' ? {} : { protocolName: protocol } } }), model: undefined,
    rules: { properties: undefined, listed: new Set(), freshnessMs: 0 } as unknown as DeviceTwin['rules'], twin: { ...emptyTwin, ...twin }
  }
  const components: DeviceTroublesComponents = {
    twins: { all: () => [held], get: () => held, tellTrouble: (...args) => { told.push(args) } },
    mappers: { problemsOf: () => problems, serves: () => problems !== undefined && usable },
    dmi: { protocols: [...registered], troubleOf: () => mapperTrouble, url: dmi === 'off' ? undefined : 'unix:/x' },
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
  ['it speaks for itself', { twin: { state: { value: 'online', timestamp: 1 } } }, undefined],
  ['it names no protocol', { protocol: '' }, undefined],
  ['its mapper is well', { registered: ['modbus'] }, undefined],
  ['its mapper is not', { registered: ['modbus'], mapperTrouble: 'it is away' }, 'it is away'],
  ['a built-in mapper is well with it', { problems: [] }, undefined],
  ['a built-in mapper is not', { problems: [problem(undefined), problem('a')] }, 'it is wrong; a: it is wrong'],
  ['much is wrong', { problems: ['a', 'b', 'c', 'd', 'e'].map(problem) }, 'a: it is wrong; b: it is wrong; c: it is wrong; and 2 more'],
  ['a built-in mapper can do nothing', { problems: [problem('a')], usable: false }, 'a: it is wrong'],
  ['and another one can', { problems: [problem('a')], usable: false, registered: ['modbus'] }, undefined]
])('where %s', (_, given, trouble) => {
  const { troubles, held } = fixture(given)
  expect(troubles.of(held)).toBe(trouble)
})

test('is cut to its bound, and never within a character', () => {
  const { troubles, held } = fixture({ problems: [{ property: undefined, reason: `${'x'.repeat(510)}😀😀` }] })
  expect(troubles.of(held)).toBe(`${'x'.repeat(510)}\ufffd…`)
})

test('is looked at every ten seconds', async () => {
  const { troubles, told, clock } = fixture({})
  const stop = new AbortController()
  const running = troubles.run(stop.signal)
  await clock.pass(9999)
  expect(told).toEqual([])
  await clock.pass(1)
  expect(told).toEqual([['default/plug', nobody]])
  await clock.pass(10_000)
  expect(told).toHaveLength(2)
  stop.abort(new Error('stop'))
  await running
})
