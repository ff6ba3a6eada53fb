import { emptyTwin } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { DeviceId } from './device-twins.ts'
import { alignTwin, changeBetween, isNone } from './held-twin.ts'

const id = 'default/plug' as DeviceId
const runs = { numRuns: Number(process.env['RUNS'] ?? 500), ...process.env['SEED'] !== undefined && { seed: Number(process.env['SEED']) } }

/** A Device of which only what ObjectTable checks is as it should be. */
const anyDevice: fc.Arbitrary<KubeObject> = fc.record({
  annotations: fc.oneof(fc.jsonValue(), fc.dictionary(
    fc.constantFrom('holdfast.dev/desired', 'holdfast.dev/report-interval', 'holdfast.dev/report-deadband', 'holdfast.dev/history'),
    fc.oneof(fc.string(), fc.json(), fc.constantFrom('all', '5s', '0.5', 'a=1,b=2', 'p=all')) as fc.Arbitrary<unknown>
  )),
  spec: fc.oneof(fc.jsonValue(), fc.record({
    deviceModelRef: fc.oneof(fc.jsonValue(), fc.record({ name: fc.constantFrom('m', '', 'n') })),
    properties: fc.oneof(fc.jsonValue(), fc.array(fc.oneof(fc.jsonValue(), fc.record({
      name: fc.constantFrom('a', 'b', '', '__proto__'), desired: fc.oneof(fc.jsonValue(), fc.record({ value: fc.string() })),
      reportToCloud: fc.oneof(fc.boolean(), fc.jsonValue())
    }))))
  })),
  uid: fc.constantFrom('one', 'two')
}).map(({ annotations, spec, uid }) => ({
  apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device',
  metadata: { name: 'plug', namespace: 'default', uid, annotations: annotations as Record<string, string> }, spec
}))

const anyModel = fc.option(fc.oneof(fc.jsonValue(), fc.record({ properties: fc.jsonValue() })).map(spec => ({
  apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel', metadata: { name: 'm', namespace: 'default', uid: 'm' }, spec
})), { nil: undefined })

test('whatever people write into Devices and models, a twin is brought in line with it, and the second time nothing changes', () => {
  fc.assert(fc.property(anyDevice, anyDevice, anyModel, (first, second, model) => {
    let held = alignTwin(id, { uid: 'one', twin: emptyTwin }, first, model, 60_000).held
    for (const device of [first, second]) {
      const before = held
      const aligned = alignTwin(id, before, device, model, 60_000)
      held = aligned.held
      expect(held.uid).toBe(device.metadata.uid)
      changeBetween(id, before, held)
      const again = alignTwin(id, held, device, model, 60_000)
      expect(again.stores).toBe(false)
      expect(again.held.twin).toBe(held.twin)
      expect(isNone(changeBetween(id, held, again.held))).toBe(true)
    }
  }), runs)
})
