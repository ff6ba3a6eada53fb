import {
  ageColumn, ageOf, builtInResource, column, dns1123SubdomainErrors, nameColumn, nameOf
} from '@holdfast/kube-api/serving'
import type { KubeObject, Resource } from '@holdfast/kube-api'

/** Devices and their models, as far as the local API shows them: for reading, without the schemas of their definitions. */
export function deviceResources(): Resource[] {
  const kind = { group: 'devices.kubeedge.io', namespaced: true, nameErrors: dns1123SubdomainErrors, mergeSchema: undefined }
  return [
    builtInResource({
      ...kind, plural: 'devicemodels', singular: 'devicemodel', kind: 'DeviceModel',
      columns: [nameColumn, column('Protocol', 'Protocol that devices of this model speak.'), ageColumn],
      cells: (object, nowMs) => [nameOf(object), textAt(object, 'spec', 'protocol'), ageOf(object, nowMs)]
    }),
    builtInResource({
      ...kind, plural: 'devices', singular: 'device', kind: 'Device',
      columns: [
        nameColumn, column('Model', 'DeviceModel that it names.'), column('Protocol', 'Protocol that it speaks.'), ageColumn
      ],
      cells: (object, nowMs) => [
        nameOf(object), textAt(object, 'spec', 'deviceModelRef', 'name'), textAt(object, 'spec', 'protocol', 'protocolName'),
        ageOf(object, nowMs)
      ]
    })
  ].map(resource => ({ ...resource, version: 'v1beta1' }))
}

function textAt(object: KubeObject, ...path: readonly string[]): string {
  let value: unknown = object
  for (const member of path) value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[member] : undefined
  return typeof value === 'string' ? value : ''
}
