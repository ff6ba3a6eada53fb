import { HybridClock, desiredAnnotation, emptyTwin, readRules } from '@holdfast/device-twin'
import type { Entry, Twin } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { silentLog } from '@holdfast/runtime'
import { HandClock } from '@holdfast/runtime/testing'
import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import { kubeKinds } from '../kube/kube-kinds.ts'
import { conditionsOf, sameJson, statusOf } from '../state/status-document.ts'
import { ScriptedCluster, nodePlace } from '../state/testing/up-cluster.ts'
import { DevicePlanner } from './device-planner.ts'
import { nextDeviceStatus } from './device-status.ts'
import { devicePlace, modelPlace, newDevice, newModel, readyNode } from './testing/device-cluster.ts'

const runs = Number(process.env['RUNS'] ?? 500)

let clock: HandClock
let cluster: ScriptedCluster
let planner: DevicePlanner

beforeEach(() => {
  clock = new HandClock()
  cluster = new ScriptedCluster(clock)
  cluster.set(nodePlace('edge-1'), () => readyNode('edge-1'))
  const [deviceModels, nodes] = [cluster.informer(kubeKinds.deviceModels), cluster.informer(kubeKinds.nodes)]
  planner = new DevicePlanner({ deviceModels, nodes, hybridClock: new HybridClock('cloud', '0000abcd'), clock, log: silentLog })
})

const name = fc.constantFrom('p', 'q', 'long name', '__proto__', '')
const text = fc.oneof(fc.constantFrom('', '1', '23', 'on', 'true', '1e999', '{"a":1}'), fc.string({ maxLength: 6 }))
const side = fc.oneof(
  { weight: 5, arbitrary: fc.record({ value: text, metadata: fc.option(fc.dictionary(fc.constantFrom('type', 'timestamp', 'version', 'x'),
    fc.oneof(fc.constantFrom('int', 'string', '1700000000000', '5.0.cloud/0000abcd', '9.1.edge-1/00000001', '1900000000000.0.edge-1/00000001'), text)), { nil: undefined }) }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) }
)
const property = fc.oneof(
  { weight: 5, arbitrary: fc.record({ name, desired: side, reportToCloud: fc.boolean() }, { requiredKeys: ['name'] }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) }
)
const listed = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<unknown> => fc.oneof({ weight: 8, arbitrary: fc.array(one, { maxLength: 4 }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) })
const conditions = listed(fc.oneof(
  fc.record({ type: fc.constantFrom('Synced', 'Served', 'Reachable', 'Mine'), status: fc.constantFrom('True', 'False', 1), observedGeneration: fc.nat(5), lastTransitionTime: text }),
  fc.jsonValue({ maxDepth: 1 })
))
const stamps = fc.oneof(
  fc.dictionary(name, fc.oneof(fc.record({
    version: fc.constantFrom('5.0.cloud/0000abcd', '1900000000000.0.edge-1/00000001', 'x'), hash: fc.constantFrom('0123456789abcdef', 'x'),
    deleted: fc.boolean(), replaces: fc.constantFrom('9.1.edge-1/00000001', 'x')
  }, { requiredKeys: [] }), fc.jsonValue({ maxDepth: 1 }))).map(value => JSON.stringify(value)),
  text
)
const device = fc.record({
  spec: fc.oneof({ weight: 8, arbitrary: fc.record({
    nodeName: fc.oneof(fc.constantFrom('edge-1', 'edge-2', ''), fc.jsonValue({ maxDepth: 1 })),
    deviceModelRef: fc.oneof(fc.constant({ name: 'lamp' }), fc.jsonValue({ maxDepth: 1 })), properties: listed(property)
  }, { requiredKeys: [] }) }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) }),
  stamps: fc.option(stamps, { nil: undefined }), status: fc.oneof(fc.record({ conditions }), fc.jsonValue({ maxDepth: 1 }))
}).map(({ spec, stamps: annotation, status }): KubeObject => {
  const made = newDevice('lamp', 'edge-1')
  return {
    ...made, spec, status, metadata: { ...made.metadata, uid: 'u', resourceVersion: '1', generation: 3, ...annotation !== undefined && { annotations: { [desiredAnnotation]: annotation } } }
  }
})
const statusMembers = fc.oneof({ weight: 8, arbitrary: fc.record({
  twins: listed(fc.oneof(fc.record({ propertyName: name, reported: side, observedDesired: side, more: fc.nat(3) }, { requiredKeys: ['propertyName'] }), fc.jsonValue({ maxDepth: 1 }))),
  state: fc.oneof(fc.constantFrom('online', 'offline'), fc.jsonValue({ maxDepth: 1 })), extensions: fc.jsonValue({ maxDepth: 2 })
}, { requiredKeys: [] }) }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 1 }) })
const deviceStatus = fc.option(fc.record({ status: statusMembers, owner: fc.constantFrom('u', 'old', undefined), node: fc.constantFrom('edge-1', 'edge-2', undefined), trouble: fc.option(text, { nil: undefined }) })
  .map(({ status, owner, node, trouble }): KubeObject => ({
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceStatus', status, metadata: {
      namespace: 'default', name: 'lamp', resourceVersion: '2',
      ...owner !== undefined && { ownerReferences: [{ apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', name: 'lamp', uid: owner }] },
      annotations: { ...node !== undefined && { 'holdfast.dev/node': node }, ...trouble !== undefined && { 'holdfast.dev/trouble': trouble } }
    }
  })), { nil: undefined })
const model = fc.option(listed(fc.oneof(fc.record({
  name, type: fc.constantFrom('INT', 'BOOLEAN', 'STRING', 'NONSENSE'), accessMode: fc.constantFrom('ReadOnly', 'ReadWrite'), minimum: text
}, { requiredKeys: ['name'] }), fc.jsonValue({ maxDepth: 1 }))), { nil: undefined })

test('whatever people write into a Device, its model and its DeviceStatus: nothing throws, and what is planned is done with one write', () => {
  fc.assert(fc.property(device, deviceStatus, model, (one, shown, properties) => {
    cluster.set(modelPlace('lamp'), () => properties === undefined ? undefined : ({ ...newModel('lamp', []), spec: { properties } }))
    const plan = planner.plan(one, planner.reportOf(one, shown))
    const request = planner.request(devicePlace('lamp'), one, plan)?.request
    if (request?.verb !== 'patch') {
      expect([plan.desired, plan.conditions]).toEqual([undefined, undefined])
      return
    }
    cluster.objects.set('devices default/lamp', one)
    void cluster.mergePatch(request.place, request.patch)
    const done = cluster.at(devicePlace('lamp'))!
    const again = planner.plan(done, planner.reportOf(done, shown))
    expect(again).toEqual({ desired: undefined, conditions: undefined })
    // What is not ours is as it was.
    const others = (object: KubeObject): unknown => conditionsOf(statusOf(object)).filter(({ type }) => !['Synced', 'Served', 'Reachable', 'InDesiredState'].includes(type))
    expect(others(done)).toEqual(others(one))
  }), { numRuns: runs })
})

const entry = fc.record({
  value: fc.oneof(fc.constantFrom('on', 23, true, null, { a: [1] })), deleted: fc.boolean(), timestamp: fc.nat(), type: fc.constantFrom('int', undefined)
}).map(({ value, deleted, timestamp, type }): Entry => ({
  value: deleted ? null : value, version: { time: timestamp, counter: 0, origin: 'edge-1/00000001' }, timestamp,
  ...deleted && { deleted }, ...type !== undefined && { type }
}))
const entries = fc.dictionary(fc.constantFrom('p', 'q', 'long name'), entry).map(one => new Map(Object.entries(one)))

test('whatever is in a DeviceStatus: an item goes into it, twice is as once, and others\' members stay', () => {
  fc.assert(fc.property(statusMembers, entries, entries, fc.boolean(), fc.boolean(), (current, reported, desired, isOtherNode, hasModel) => {
    const twin: Twin = { ...emptyTwin, reported, desired }
    const before = statusOf({ apiVersion: '', kind: '', metadata: {}, status: current })
    const model = { spec: { properties: [{ name: 'p', type: 'DOUBLE' }, { name: 'q', type: 'STRING' }] } }
    const rules = readRules({ device: {}, model: hasModel ? model : undefined, freshnessMs: 0 })
    const next = nextDeviceStatus(before, twin, isOtherNode, rules)
    expect(sameJson(nextDeviceStatus(next, twin, false, rules), next)).toBe(true)
    expect(sameJson(next['extensions'], before['extensions'])).toBe(true)
  }), { numRuns: runs })
})
