import { describe, expect, it } from 'vitest'
import { renderDevices, renderTwin, twinChanges, valueText, type TwinView } from './twin-view.ts'

const [version, timestamp] = ['1.0.cloud/0000000c', '2027-01-15T08:00:00.000Z']
const view: TwinView = {
  device: 'default/plug', node: 'edge-1', model: null, state: 'online', lastOnlineTime: timestamp, inDesiredState: false, trouble: null,
  conditions: [{ type: 'Synced', status: 'False', reason: 'NodeUnreachable', message: 'Node edge-1 is away.', since: timestamp, observedGeneration: 2 }],
  properties: {
    level: {
      desired: { value: 7, version, timestamp, writer: 'cloud' }, reported: { value: 3, version: null, timestamp: null, writer: 'edge-1' }, sync: 'no: not yet'
    },
    name: { reported: { value: 'a\u001b[31mb', version, timestamp, writer: 'edge-1' }, sync: '' }
  }
}
const ageMs = (): number => 12_000

describe('a twin for people', () => {
  it('shows both sides, who wrote them and when, and why it is not in sync', () => {
    expect(renderTwin(view, ageMs)).toBe(`\
device  default/plug
node    edge-1
model   -
state   online, said 12 s ago
Synced  no, NodeUnreachable: Node edge-1 is away. (since 12 s)

PROPERTY  SECTION   VALUE                  WRITER  WRITTEN   VERSION             IN SYNC
level     desired   7                      cloud   12 s ago  1.0.cloud/0000000c  no: not yet
          reported  3                      edge-1  -         -
name      reported  <7 B: 611b5b33316d62>  edge-1  12 s ago  1.0.cloud/0000000c
`)
  })

  it('has no table without properties, and says on the node whether it is in the desired state', () => {
    expect(renderTwin({ ...view, node: null, conditions: [], properties: {} }, ageMs)).toBe(
      'device            default/plug\nmodel             -\nstate             online, said 12 s ago\nin desired state  no\n\nno properties yet\n')
  })

  it.each<[unknown, string]>([
    ['', '""'], ['x', 'x'], [1.5, '1.5'], [{ a: [true, null] }, '{"a":[true,null]}'], ['x'.repeat(100), `${'x'.repeat(59)}…`], ['a\nb', 'a\\nb']
  ])('shows %j as %s', (value, text) => { expect(valueText(value)).toBe(text) })
})

describe('changes of a twin', () => {
  it('are a line each', () => {
    const after: TwinView = {
      ...view, state: 'offline', conditions: [{ ...view.conditions[0]!, status: 'True', reason: 'DesiredObserved', message: '' }],
      properties: { level: { ...view.properties['level']!, reported: { value: 7, version: null, timestamp, writer: 'edge-1' }, sync: 'yes' } }
    }
    expect(twinChanges(view, after)).toEqual([
      'state offline', 'Synced yes, DesiredObserved', 'level  reported  7  by edge-1', 'level  in sync: yes', 'name  reported  gone'
    ])
    expect(twinChanges(view, view)).toEqual([])
  })

  it('are told of properties with names that objects have by nature', () => {
    const properties = { constructor: { reported: { value: 1, version, timestamp, writer: 'edge-1' }, sync: '' } }
    expect(twinChanges({ ...view, properties: {} }, { ...view, properties })).toEqual(['constructor  reported  1  by edge-1'])
  })
})

it('devices are a table, with what the place knows', () => {
  const row = {
    device: 'default/plug', node: 'edge-1', model: 'plugs', state: null, lastOnlineTime: null, isNodeAway: true, synced: 'yes',
    inDesiredState: 'no, DesiredPending', created: timestamp
  }
  expect(renderDevices([row], 'cloud', ageMs)).toBe('DEVICE        NODE    MODEL  STATE  SYNCED  IN DESIRED STATE    AGE\n' +
    'default/plug  edge-1  plugs  -      yes     no, DesiredPending  12 s\n')
  expect(renderDevices([{ ...row, state: 'online' }], 'cloud', ageMs)).toContain(' online, node away  yes ')
  expect(renderDevices([row], 'edge', ageMs)).toBe('DEVICE        MODEL  STATE  IN DESIRED STATE    AGE\n' +
    'default/plug  plugs  -      no, DesiredPending  12 s\n')
})
