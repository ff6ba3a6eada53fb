import { describe, expect, test } from 'vitest'
import { filterMatches } from '../broker/topic.ts'
import type { DeviceId } from '../twins/index.ts'
import { deviceTopicsOf, devicesOfFilter, parseRequestTopic, requestFilters } from './topics.ts'

const under = (rest: string): string => `$hw/events/device/${rest}`

describe('a topic is read by position', () => {
  test.each(['dev', 'device', 'event', 'events', 'hw', 'twin', 'node', 'update'])('a namespace or name %s means nothing else', word => {
    for (const id of [`${word}/x`, `x/${word}`, `${word}/${word}`]) {
      expect(parseRequestTopic(under(`${id}/twin/update`))).toEqual({ kind: 'twin-update', id, device: under(id) })
      expect(parseRequestTopic(under(`${id}/state/update`))).toEqual({ kind: 'state-update', id, device: under(id) })
    }
    expect(parseRequestTopic(under(`${word}/twin/get`))).toEqual({ kind: 'twin-get', id: `default/${word}`, device: under(word) })
  })

  test.each([
    'x/y/twin/update/result', 'x/twin/update/result', 'x/y/twin/update/delta', 'x/y/twin/update/document', 'x/y/twin/get/result',
    'twin/update', 'x/y/z/twin/update', 'x/y/state/get', 'x/y/updated', 'x/y/twin', ''
  ])('%s asks for nothing', rest => {
    expect(parseRequestTopic(under(rest))).toBeUndefined()
  })

  test.each(['X/y', 'x/_', '/y', 'x/', 'x y/z', '', `x/${'y'.repeat(254)}`, `${'x'.repeat(64)}/y`])('%j is no device', id => {
    expect(parseRequestTopic(under(`${id}/twin/get`))).toEqual({ kind: 'twin-get', id: undefined, device: under(id) })
  })

  test('of the node, and of nothing else', () => {
    expect(parseRequestTopic('$hw/events/node/edge-1/membership/get')).toEqual({ kind: 'membership-get', node: 'edge-1' })
    for (const topic of ['$hw/events/node/membership/get', '$hw/events/node/a/b/membership/get', '$hw/events/node/edge-1/membership/updated',
      'hw/events/device/x/y/twin/get', '$hw/event/device/x/y/twin/get', '$hw/events/upload/x']) {
      expect(parseRequestTopic(topic)).toBeUndefined()
    }
  })

  test('all that is listened to is a request, and every request is listened to', () => {
    for (const filter of requestFilters) expect(parseRequestTopic(filter.replaceAll('+', 'x'))).toBeDefined()
    for (const topic of [under('x/twin/get'), under('x/y/twin/update'), under('x/state/update')]) {
      expect(requestFilters.filter(filter => filterMatches(filter, topic)).length).toBe(1)
    }
  })
})

describe('which devices a filter names', () => {
  test.each([
    [under('ns/n/twin/update/delta'), ['default/ns', 'ns/n']],
    [under('ns/n/#'), ['default/ns', 'ns/n']],
    ['$hw/+/device/ns/n/#', ['default/ns', 'ns/n']],
    [under('n/twin/update/delta'), ['default/n', 'n/twin']],
    [under('+/+/twin/update/delta'), 'all'],
    [under('n/+/update/delta'), 'all'],
    [under('#'), 'all'], ['$hw/#', 'all'], ['$hw/events/+/#', 'all'],
    ['#', []], ['+/events/device/ns/n/#', []], ['a/b', []], ['$hw/events/node/#', []], ['$hw/events/device', []], [under('n'), []]
  ] as const)('%s', (filter, devices) => {
    expect(devicesOfFilter(filter)).toEqual(devices)
  })

  test('no filter that matches a topic of a device leaves that device out', () => {
    const ids = ['default/n', 'ns/n', 'n/twin'] as DeviceId[]
    for (const id of ids) {
      for (const topic of deviceTopicsOf(id)) {
        const levels = `${topic}/twin/update/delta`.split('/')
        for (let mask = 0; mask < 2 ** levels.length; mask++) {
          const some = levels.map((level, i) => (mask & 2 ** i) === 0 ? level : '+')
          for (const filter of [some.join('/'), `${some.slice(0, 1 + mask % levels.length).join('/')}/#`]) {
            if (!filterMatches(filter, levels.join('/'))) continue
            const devices = devicesOfFilter(filter)
            if (devices !== 'all') expect(devices, filter).toContain(id)
          }
        }
      }
    }
  })
})
