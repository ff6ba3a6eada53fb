import type { Json } from '@holdfast/device-twin'
import { describe, expect } from 'vitest'
import { MqttProtocol } from './mqtt-protocol.ts'
import { MemoryBus } from './testing/memory-bus.ts'
import { mapperSuite } from './testing/mapper-suite.ts'
import type { MapperFixture, PlayedDevice } from './testing/mapper-suite.ts'

async function open(): Promise<MapperFixture> {
  const bus = new MemoryBus()
  return {
    protocol: new MqttProtocol({ bus }),
    isRemote: false,
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
})
