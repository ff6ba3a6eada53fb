import type { Json } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { SystemClock, silentLog, wait } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import { MemoryStore } from '@holdfast/store'
import { describe, expect, test } from 'vitest'
import type { DeviceId, DeviceTwin } from '../../twins/device-twins.ts'
import { device, deviceModel, openTwins, stamped, startMs } from '../../twins/testing/twin-harness.ts'
import type { TwinsHarness } from '../../twins/testing/twin-harness.ts'
import { Mappers } from '../mappers.ts'
import type { Protocol } from '../mapper.ts'

/** One protocol with devices that are played by the test. */
export interface MapperFixture extends AsyncDisposable {
  readonly protocol: Protocol
  readonly device: (name: string) => PlayedDevice
  /** Whether devices are behind real sockets, which need real time. */
  readonly isRemote: boolean
}

/** A device with properties that can be read and told, each by its name. */
export interface PlayedDevice {
  /** `spec.protocol.configData`. */
  readonly settings: Readonly<Record<string, unknown>>
  /** `visitors.configData` of a property. */
  readonly visitor: (property: string) => Readonly<Record<string, unknown>>
  /** Visitors that cannot be used, and what the problem has to name. */
  readonly brokenVisitor: { readonly settings: Readonly<Record<string, unknown>>, readonly names: string }
  /** From now on the device has these values, and says so the way its protocol has it. */
  readonly say: (values: Readonly<Record<string, Json>>) => void | Promise<void>
  /** What it was told, in order. It does nothing of it: `say` does. */
  readonly told: readonly { readonly property: string, readonly value: Json }[]
  /** From now on it does not answer. */
  readonly hang: () => void
}

const machine = new SystemClock()

const model = deviceModel('default/played', [
  { name: 'power', type: 'BOOLEAN', accessMode: 'ReadWrite' },
  { name: 'level', type: 'INT', accessMode: 'ReadWrite', minimum: '0', maximum: '100' }
])

/** What every built-in mapper does. `open` is called for each test, with the clock that the mapper is to take. */
export function mapperSuite(open: (clock: Clock) => Promise<MapperFixture>): void {
  describe('as every mapper', () => {
    test('a device that comes is served, and its first report is there', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power', 'level'] })
      await played.fixture.device('plug').say({ power: true, level: 7 })
      await played.until(() => played.reported('plug'), { power: true, level: 7 })
    })

    test('a device whose Device changed is served as it says now', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power'] })
      await played.fixture.device('plug').say({ power: true, level: 7 })
      await played.until(() => played.reported('plug'), { power: true })
      await played.receive({ plug: ['power', 'level'] })
      await played.fixture.device('plug').say({ power: true, level: 8 })
      await played.until(() => played.reported('plug'), { power: true, level: 8 })
    })

    test('a device that goes is not told anything any more', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power'] }, { power: 'true' })
      const plug = played.fixture.device('plug')
      await played.until(() => plug.told.length, 1)
      await played.harness.receive({ 'default/plug': undefined })
      await played.pass(30_000)
      expect(plug.told).toHaveLength(1)
      expect(played.mappers.status()).toEqual([])
    })

    test('a desired value is told at once, again after 5 s and 10 s, until it is reported, and then no more', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power', 'level'] }, { level: '42' })
      const plug = played.fixture.device('plug')
      await played.until(() => plug.told, [{ property: 'level', value: 42 }])
      await played.pass(4900)
      expect(plug.told).toHaveLength(1)
      await played.pass(200)
      await played.until(() => plug.told.length, 2)
      await played.pass(9700)
      expect(plug.told).toHaveLength(2)
      await played.pass(500)
      await played.until(() => plug.told.length, 3)
      await plug.say({ level: 42 })
      await played.until(() => played.reported('plug'), { level: 42 })
      await played.pass(60_000)
      expect(plug.told).toHaveLength(3)
      expect(played.mappers.status()).toMatchObject([{ wanted: [], problems: [] }])
    })

    test('what else the device says is no reason to tell it again', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power', 'level'] }, { level: '42' })
      const plug = played.fixture.device('plug')
      await played.until(() => plug.told.length, 1)
      await plug.say({ power: true, level: 41 })
      await played.until(() => played.reported('plug'), { power: true, level: 41 })
      await plug.say({ power: false, level: 41 })
      await played.until(() => played.reported('plug'), { power: false, level: 41 })
      expect(plug.told).toHaveLength(1)
    })

    test('another desired value is told at once', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['level'] }, { level: '42' })
      const plug = played.fixture.device('plug')
      await played.until(() => plug.told.length, 1)
      await played.pass(10)
      await played.receive({ plug: ['level'] }, { level: '43' })
      await played.until(() => plug.told.map(({ value }) => value), [42, 43])
    })

    test('a broken visitor is told with property and reason, and stops neither other properties nor other devices', async () => {
      await using played = await play(open)
      const { settings, names } = played.fixture.device('plug').brokenVisitor
      await played.receive({ plug: ['power', 'level'], lamp: ['power'] }, {}, { level: settings })
      const [problem] = played.problems('plug')
      expect(problem).toMatchObject({ property: 'level' })
      expect(problem!.reason).toContain(names)
      await played.fixture.device('plug').say({ power: true })
      await played.fixture.device('lamp').say({ power: false })
      await played.until(() => [played.reported('plug'), played.reported('lamp')], [{ power: true }, { power: false }])
      expect(played.mappers.counts).toEqual({ devices: 2, troubled: 1 })
    })

    test('a value that the model refuses is told, and stops no other one; it is forgotten with the next good one', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['power', 'level'] })
      const plug = played.fixture.device('plug')
      await plug.say({ power: true, level: 101 })
      await played.until(() => played.reported('plug'), { power: true })
      await played.until(() => played.problems('plug'), [{ property: 'level', reason: expect.stringContaining('101') as string }])
      await plug.say({ power: true, level: 100 })
      await played.until(() => [played.reported('plug'), played.problems('plug')], [{ power: true, level: 100 }, []])
    })

    test('a device that hangs delays nobody', async () => {
      await using played = await play(open)
      played.fixture.device('plug').hang()
      await played.receive({ plug: ['level'], lamp: ['level'] }, { level: '5' })
      const lamp = played.fixture.device('lamp')
      await played.until(() => lamp.told.length, 1)
      await lamp.say({ level: 5 })
      await played.until(() => played.reported('lamp'), { level: 5 })
      expect(played.reported('plug')).toEqual({})
    })

    test('equal reports store nothing', async () => {
      await using played = await play(open)
      await played.receive({ plug: ['level'] })
      const plug = played.fixture.device('plug')
      await plug.say({ level: 1 })
      await played.until(() => played.reported('plug'), { level: 1 })
      await played.pass(1)
      const { revision } = played.twin('plug').twin
      const { reports } = played.mappers.counters
      for (let i = 0; i < 5; i++) {
        await plug.say({ level: 1 })
        await played.pass(1100)
      }
      expect(played.mappers.counters.reports).toBeGreaterThan(reports + 3)
      expect(played.twin('plug').twin.revision).toBe(revision)
    })
  })
}

export interface Played extends AsyncDisposable {
  readonly fixture: MapperFixture
  readonly clock: HandClock
  readonly harness: TwinsHarness
  readonly mappers: Mappers
  /** Devices with properties of the model; `broken` replaces visitors. */
  readonly receive: (
    devices: Readonly<Record<string, readonly string[]>>, desired?: Readonly<Record<string, string>>,
    broken?: Readonly<Record<string, Readonly<Record<string, unknown>>>>, collectCycle?: number
  ) => Promise<void>
  readonly twin: (name: string) => DeviceTwin
  readonly reported: (name: string) => Readonly<Record<string, Json>>
  readonly problems: (name: string) => readonly { readonly property: string | undefined, readonly reason: string }[]
  /** Lets time go by, and devices answer meanwhile. */
  readonly pass: (ms: number) => Promise<void>
  /** Lets time go by, five seconds of it at most, until `get` gives `expected`. */
  readonly until: (get: () => unknown, expected: unknown) => Promise<void>
}

/** A protocol with real twins around it, and a clock that the test moves. */
export async function play(open: (clock: Clock) => Promise<MapperFixture>): Promise<Played> {
  const clock = new HandClock(startMs)
  const fixture = await open(clock)
  const harness = await openTwins(new MemoryStore(), { clock })
  const mappers = Mappers.open({}, { protocols: [fixture.protocol], twins: harness.twins, clock, log: silentLog })
  const stop = new AbortController()
  const running = mappers.run(stop.signal)
  const twin = (name: string): DeviceTwin => harness.twins.get(`default/${name}` as DeviceId)!
  return {
    fixture, clock, harness, mappers, twin,
    async receive(devices, desired = {}, broken = {}, collectCycle = 1000) {
      const objects: Record<string, KubeObject> = { 'default/played': model }
      for (const [name, properties] of Object.entries(devices)) {
        const { settings, visitor } = fixture.device(name)
        objects[`default/${name}`] = stamped(device(`default/${name}`, {
          model: 'played',
          properties: properties.map(property => ({
            name: property, collectCycle,
            visitors: { protocolName: fixture.protocol.name, configData: broken[property] ?? visitor(property) },
            ...desired[property] !== undefined && { desired: { value: desired[property] } }
          })),
          spec: { protocol: { protocolName: fixture.protocol.name, configData: settings } }
        }), clock.nowMs, model)
      }
      await harness.receive(objects)
    },
    reported: name => Object.fromEntries([...twin(name).twin.reported].map(([property, { value }]) => [property, value])),
    problems: name => mappers.status().find(status => status.device === `default/${name}`)!.problems,
    async pass(ms) {
      const stepMs = fixture.isRemote ? 200 : ms
      for (let left = ms; left > 0; left -= stepMs) {
        await clock.pass(Math.min(left, stepMs))
        if (fixture.isRemote) await aMoment()
      }
    },
    async until(get, expected) {
      // By the test's clock: a slow machine takes long for as much of it.
      const deadlineMs = clock.nowMs + 5000
      for (;;) {
        await aMoment()
        try {
          expect(get()).toEqual(expected)
          return
        } catch (error) {
          if (clock.nowMs > deadlineMs) throw error
        }
        await clock.pass(1)
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort()
      await running
      await harness[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
    }
  }
}

/** Real time for sockets, about as much as passes on the test's clock. */
function aMoment(): Promise<void> { return wait(machine, 1) }
