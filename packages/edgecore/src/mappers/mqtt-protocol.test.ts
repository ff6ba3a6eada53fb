import type { Json } from '@holdfast/device-twin'
import { describe, expect, test } from 'vitest'
import type { DeviceId } from '../twins/device-twins.ts'
import { reported } from '../twins/testing/twin-harness.ts'
import { MqttProtocol } from './mqtt-protocol.ts'
import { MemoryBus } from './testing/memory-bus.ts'
import { mapperSuite, play } from './testing/mapper-suite.ts'
import type { MapperFixture, Played, PlayedDevice } from './testing/mapper-suite.ts'

interface MqttFixture extends MapperFixture { readonly bus: MemoryBus }

async function open(): Promise<MqttFixture> {
  const bus = new MemoryBus()
  return {
    protocol: new MqttProtocol({ bus }),
    isRemote: false,
    bus,
    device: (name): PlayedDevice => ({
      settings: {},
      visitor: property => ({ topic: `${name}/state`, pointer: `/${property}`, commandTopic: `${name}/set/${property}`, commandPayload: '{{json}}' }),
      brokenVisitor: { settings: { topic: 'a/#/b' }, names: 'visitors.configData.topic' },
      say: values => { bus.deliver(`${name}/state`, JSON.stringify(values)) },
      get told() {
        return bus.published.filter(({ topic }) => topic.startsWith(`${name}/set/`))
          .map(({ topic, payload }) => ({ property: topic.split('/')[2]!, value: JSON.parse(payload) as Json }))
      },
      hang: () => {}
    }),
    [Symbol.asyncDispose]: async () => { expect(bus.takers).toBe(0) }
  }
}

describe('the mapper for MQTT', () => {
  mapperSuite(open)

  test('what is a whole payload is text, and the model makes a value of it', async () => {
    await using played = await play(open)
    await played.receive({ plug: ['power', 'level'] }, {}, { power: { topic: 'plug/on' }, level: { topic: ['plug/level', 'plug/l'] } })
    busOf(played).deliver('plug/on', 'true')
    busOf(played).deliver('plug/l', '23')
    await played.until(() => played.reported('plug'), { power: true, level: 23 })
  })

  test('scale and offset go both ways', async () => {
    await using played = await play(open)
    const visitor = { topic: 'plug/raw', conversion: { scale: 0.1, offset: -40 }, commandTopic: 'plug/set/level' }
    await played.receive({ plug: ['level'] }, { level: '22' }, { level: visitor })
    await played.until(() => busOf(played).published, [{ topic: 'plug/set/level', payload: '620' }])
    busOf(played).deliver('plug/raw', '620')
    await played.until(() => played.reported('plug'), { level: 22 })
    expect(played.problems('plug')).toEqual([])
  })

  test('a desired value that no word of the device means is not told, and a problem', async () => {
    await using played = await play(open)
    const visitor = { topic: 'plug/on', conversion: { map: { ON: true } }, commandTopic: 'plug/set/power' }
    await played.receive({ plug: ['power'] }, { power: 'false' }, { power: visitor })
    await played.until(() => played.problems('plug'),
      [{ property: 'power', reason: 'writing "false": no word of the device means false (conversion)' }])
    expect(busOf(played).published).toEqual([])
    // It stays when the device reports something else, and ends when that is what is wanted.
    busOf(played).deliver('plug/on', 'ON')
    await played.until(() => played.reported('plug'), { power: true })
    expect(played.problems('plug')).toHaveLength(1)
    played.harness.twins.write('default/plug' as DeviceId, reported({ power: false }), 'http')
    await played.until(() => played.problems('plug'), [])
  })

  test('nor is it told to a subscriber, and that is no problem beside', async () => {
    await using played = await play(open)
    await played.receive({ plug: ['power'] }, { power: 'false' }, { power: { conversion: { map: { ON: true } }, commandTopic: 'plug/set/power' } })
    await played.until(() => played.problems('plug').length, 1)
    expect(busOf(played).subscribe('plug/set/+')).toEqual([])
    played.harness.twins.write('default/plug' as DeviceId, reported({ power: false }), 'http')
    await played.until(() => played.problems('plug'), [])
  })

  test('an availability that is neither is a problem of the device, until it is one', async () => {
    await using played = await play(async () => {
      const fixture = await open()
      return { ...fixture, device: name => ({ ...fixture.device(name), settings: { availabilityTopic: `${name}/LWT` } }) }
    })
    await played.receive({ plug: ['level'] })
    busOf(played).deliver('plug/LWT', 'booting')
    expect(played.problems('plug')).toEqual([{ property: undefined, reason: expect.stringContaining('booting') as string }])
    busOf(played).deliver('plug/LWT', 'online')
    await played.until(() => [played.twin('plug').twin.state?.value, played.problems('plug')], ['online', []])
  })

  test('problems are told in the order of the properties, one of each', async () => {
    await using played = await play(open)
    await played.receive({ plug: ['power', 'level', 'mode'] }, {}, { level: { topic: 'a/#/b' } })
    for (const said of [{ mode: 9, power: 9 }, { power: 9 }, { mode: 9 }]) busOf(played).deliver('plug/state', JSON.stringify(said))
    expect(played.problems('plug').map(({ property }) => property)).toEqual(['power', 'level', 'mode'])
  })

  test.each([
    [{}, 'expected topic (where the device says the value), commandTopic (where it is told), or both'],
    [{ topic: 5 }, 'visitors.configData.topic: expected an MQTT topic or topic filter, or a list of at most 8 of them, got 5'],
    [{ topic: 'a', pointer: 'b' }, 'visitors.configData.pointer: expected a JSON pointer such as /ENERGY/Power, at most 1024 characters, got "b"'],
    [{ topic: 'a', conversion: { scale: 0 } }, 'visitors.configData.conversion.scale: expected a number other than 0, got 0'],
    [{ topic: 'a', conversion: 'x2' }, 'visitors.configData.conversion: expected {scale, offset}, numbers, or {map'],
    [{ commandTopic: 'a/#' }, 'visitors.configData.commandTopic: expected an MQTT topic without + and #'],
    [{ commandTopic: 'a', commandPayload: '{{Value}}' }, 'visitors.configData.commandPayload: expected text, with {{value}}'],
    [{ topic: 'a', pionter: '/b' }, 'visitors.configData: no such setting: pionter']
  ])('settings %j are told so that somebody can act on it', async (settings, reason) => {
    await using played = await play(open)
    await played.receive({ plug: ['level'] }, {}, { level: settings })
    expect(played.problems('plug')).toEqual([{ property: 'level', reason: expect.stringContaining(reason) as string }])
    // Perhaps they are those of another mapper, which may register.
    expect(played.mappers.serves(played.twin('plug'))).toBe(false)
  })

  test('a property that is refused stops no other one of its message, however long its name is', async () => {
    await using played = await play(open)
    const long = 'x'.repeat(253)
    await played.receive({ plug: [long, 'level'] }, {}, { [long]: { topic: 'plug' }, level: { topic: 'plug' } })
    busOf(played).deliver('plug', '23')
    await played.until(() => played.reported('plug'), { level: 23 })
    expect(played.problems('plug')).toMatchObject([{ property: long }])
  })

  test('null, a pointer that leads nowhere and a payload that is nested too deep take nothing away', async () => {
    await using played = await play(open)
    await played.receive({ plug: ['level'] }, {}, { level: { topic: 'plug', pointer: '/a/0/level' } })
    const bus = busOf(played)
    bus.deliver('plug', '{"a":[{"level":5}]}')
    await played.until(() => played.reported('plug'), { level: 5 })
    for (const payload of ['{"a":[{"level":null}]}', '{"a":[]}', '{"a":{"0":7}}', '[]', '7', '{"__proto__":{"level":6}}']) bus.deliver('plug', payload)
    expect(played.problems('plug')).toEqual([])
    bus.deliver('plug', '['.repeat(100_000))
    bus.deliver('plug', `{"a":[{"level":${'['.repeat(40)}${']'.repeat(40)}}]}`)
    expect(played.problems('plug')).toHaveLength(1)
    await played.pass(10)
    expect(played.reported('plug')).toEqual({ level: 5 })
  })

  test('a command goes to a subscriber alone, and only where it is wanted', async () => {
    await using played = await play(open)
    await played.receive({ plug: ['power', 'level'] }, { level: '7' })
    await played.until(() => played.fixture.device('plug').told.length, 1)
    expect(busOf(played).subscribe('plug/set/+')).toEqual([{ topic: 'plug/set/level', payload: '7' }])
    expect(busOf(played).subscribe('lamp/set/+')).toEqual([])
  })
})

function busOf(played: Played): MemoryBus { return (played.fixture as MqttFixture).bus }
