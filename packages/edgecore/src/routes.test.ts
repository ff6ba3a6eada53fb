import { describe, expect, it } from 'vitest'
import { Routes } from './routes.ts'

const rules = [
  { filter: 'devices/{namespace}/{name}/telemetry', device: '{namespace}/{name}', lane: 'telemetry' },
  { filter: 'devices/{namespace}/{name}/alarms', device: '{namespace}/{name}', lane: 'alarms' },
  { filter: '$ke/events/device/{namespace}/{name}/data/update', device: '{namespace}/{name}', lane: 'telemetry' },
  { filter: '$hw/events/upload/#', device: 'node', lane: 'telemetry' },
  { filter: 'SYS/dis/upload_records', device: 'node', lane: 'telemetry' },
  { filter: '+/user/#', device: 'node', lane: 'telemetry' },
  { filter: 'rooms/{name}/+', device: 'hall/{name}', lane: 'telemetry' },
  { filter: 'quiet/#', device: 'node', lane: 'local' }
]
const routes = new Routes({ rules, lane: name => name === 'alarms' || name === 'telemetry' ? name : undefined })

function where(topic: string): string {
  const found = routes.resolve(topic)
  return found.kind === 'record' ? `${found.lane} ${found.topic.device}` : found.kind
}

describe('routes', () => {
  it.each([
    ['devices/plant/pump-1/telemetry', 'telemetry plant/pump-1'],
    ['devices/plant/pump-1/alarms', 'alarms plant/pump-1'],
    ['devices/plant/pump-1/telemetry/x', 'unrouted'],
    ['devices/plant/telemetry', 'unrouted'],
    ['$ke/events/device/default/s1/data/update', 'telemetry default/s1'],
    ['$hw/events/upload/a/b', 'telemetry node'],
    ['$hw/events/upload', 'telemetry node'],
    ['$hw/events/device/default/s1/twin/update', 'unrouted'],
    ['SYS/dis/upload_records', 'telemetry node'],
    ['anything/user/x/y', 'telemetry node'],
    ['$other/user/x', 'unrouted'],
    ['rooms/lamp/power', 'telemetry hall/lamp'],
    ['quiet/talk', 'local']
  ])('%s goes to %s', (topic, expected) => { expect(where(topic)).toBe(expected) })

  it.each(['devices//pump/telemetry', 'devices/plant//telemetry', 'devices/pl ant/pump/telemetry',
    'devices/plant/{name}/telemetry', 'devices/-x/pump/telemetry', `devices/plant/${'n'.repeat(254)}/telemetry`
  ])('%s names no device, and stays local', topic => { expect(where(topic)).toBe('bad-device') })

  it('gives the same object for the same topic', () => {
    expect(routes.resolve('devices/plant/pump-1/telemetry')).toBe(routes.resolve('devices/plant/pump-1/telemetry'))
  })

  it('remembers a bounded number of topics', () => {
    const small = new Routes({ rules, lane: name => name, cacheEntriesMax: 4 })
    const first = small.resolve('devices/a/b/telemetry')
    for (let i = 0; i < 20; i++) small.resolve(`other/${i}`)
    expect(small.resolve('devices/a/b/telemetry')).not.toBe(first)
  })

  it('refuses a lane that nobody knows', () => {
    expect(() => new Routes({ rules: [{ filter: 'a', device: 'node', lane: 'x' }], lane: () => undefined })).toThrow('lane x')
  })
})
