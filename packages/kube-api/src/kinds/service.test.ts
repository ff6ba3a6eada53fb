import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../object.ts'
import { services } from './service.ts'
import { created, createFaults, row, updated, updateFaults } from './testing/objects.ts'

const resource = services()
const web = { metadata: { name: 'web' }, spec: { selector: { app: 'web', a: 'b' }, ports: [{ port: 80 }] } }
const faults = (spec: JsonObject, name = 'web'): string[] => createFaults(resource, { metadata: { name }, spec })

describe('a Service', () => {
  test('has defaults, and an address only if it was given one', () => {
    expect(created(resource, web)).toMatchObject({
      spec: { type: 'ClusterIP', sessionAffinity: 'None', internalTrafficPolicy: 'Cluster', ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }] },
      status: { loadBalancer: {} }
    })
    expect(created(resource, web)['spec']).not.toHaveProperty('clusterIP')
    expect(created(resource, { ...web, spec: { ...web.spec, clusterIP: 'None' } })['spec']).toMatchObject({ clusterIP: 'None', clusterIPs: ['None'] })
    expect(created(resource, { ...web, spec: { ...web.spec, type: 'LoadBalancer', sessionAffinity: 'ClientIP' } })['spec']).toMatchObject({
      externalTrafficPolicy: 'Cluster', allocateLoadBalancerNodePorts: true, sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } }
    })
  })

  test('is named by a DNS label that begins with a letter', () => {
    expect(faults(web.spec, '1web')).toEqual(['metadata.name FieldValueInvalid'])
    expect(faults(web.spec, 'a.b')).toEqual(['metadata.name FieldValueInvalid'])
  })

  test.each<[string, JsonObject, string[]]>([
    ['without ports', {}, ['spec.ports FieldValueRequired']],
    ['headless without ports', { clusterIP: 'None' }, []],
    ['of an unknown type', { ports: [{ port: 1 }], type: 'Magic' }, ['spec.type FieldValueNotSupported']],
    ['with two nameless ports', { ports: [{ port: 1 }, { port: 2 }] }, ['spec.ports[0].name FieldValueRequired', 'spec.ports[1].name FieldValueRequired']],
    ['with a port twice', { ports: [{ name: 'a', port: 1 }, { name: 'b', port: 1 }] }, ['spec.ports[1] FieldValueDuplicate']],
    ['with a port on two protocols', { ports: [{ name: 'a', port: 1 }, { name: 'b', port: 1, protocol: 'UDP' }] }, []],
    ['with a name twice', { ports: [{ name: 'a', port: 1 }, { name: 'a', port: 2 }] }, ['spec.ports[1].name FieldValueDuplicate']],
    ['with ports out of range', { ports: [{ port: 70_000, targetPort: 'not ok' }] }, ['spec.ports[0].port FieldValueInvalid', 'spec.ports[0].targetPort FieldValueInvalid']],
    ['with an unknown protocol', { ports: [{ port: 1, protocol: 'ICMP' }] }, ['spec.ports[0].protocol FieldValueNotSupported']],
    ['with a node port and no way to it', { ports: [{ port: 1, nodePort: 30_001 }] }, ['spec.ports[0].nodePort FieldValueForbidden']],
    ['with a node port', { type: 'NodePort', ports: [{ port: 1, nodePort: 30_001 }] }, []],
    ['with an address that is none', { ports: [{ port: 1 }], clusterIP: 'here' }, ['spec.clusterIPs[0] FieldValueInvalid']],
    ['with two addresses that disagree', { ports: [{ port: 1 }], clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.2'] }, ['spec.clusterIPs FieldValueInvalid']],
    ['with an external address that is none', { ports: [{ port: 1 }], externalIPs: ['here'] }, ['spec.externalIPs[0] FieldValueInvalid']],
    ['that is but a name', { type: 'ExternalName', externalName: 'db.example.com.' }, []],
    ['that is but no name', { type: 'ExternalName' }, ['spec.externalName FieldValueRequired']],
    ['with a selector that selects nothing', { ports: [{ port: 1 }], selector: { 'a b': 'x' } }, ['spec.selector FieldValueInvalid']],
    ['with an unknown affinity', { ports: [{ port: 1 }], sessionAffinity: 'Cookie' }, ['spec.sessionAffinity FieldValueNotSupported']]
  ])('%s', (_name, spec, expected) => {
    expect(faults(spec)).toEqual(expected)
  })

  test('keeps its address through an update', () => {
    const current = created(resource, { ...web, spec: { ...web.spec, clusterIP: '10.0.0.1' } })
    expect(updated(resource, current, { spec: web.spec })['spec']).toMatchObject({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1'] })
    expect(updateFaults(resource, current, { spec: web.spec })).toEqual([])
    expect(updateFaults(resource, current, { spec: { ...web.spec, clusterIP: '10.0.0.2' } })).toEqual(['spec.clusterIPs[0] FieldValueInvalid'])
    expect(updateFaults(resource, current, { spec: { type: 'ExternalName', externalName: 'x.example' } })).toEqual([])
    const status = { loadBalancer: { ingress: [{ ip: '1.2.3.4' }] } }
    expect(updated(resource, current, { spec: web.spec, status })['status']).toEqual({ loadBalancer: {} })
    expect(updated(resource, current, { status }, 'status')).toMatchObject({ spec: { clusterIP: '10.0.0.1' }, status })
  })

  test('rows', () => {
    expect(row(resource, created(resource, web))).toEqual({
      'Name': 'web', 'Type': 'ClusterIP', 'Cluster-IP': '<none>', 'External-IP': '<none>', 'Port(s)': '80/TCP', 'Age': '5m', 'Selector': 'a=b,app=web'
    })
    const balanced = created(resource, { metadata: { name: 'lb' }, spec: { type: 'LoadBalancer', clusterIP: '10.0.0.1',
      ports: [{ name: 'a', port: 80, nodePort: 30_080 }, { name: 'b', port: 53, protocol: 'UDP' }] } })
    expect(row(resource, balanced)).toMatchObject({ 'Cluster-IP': '10.0.0.1', 'External-IP': '<pending>', 'Port(s)': '80:30080/TCP,53/UDP', 'Selector': '<none>' })
    balanced['status'] = { loadBalancer: { ingress: [{ hostname: 'z.example' }, { ip: '1.2.3.4' }] } }
    expect(row(resource, balanced)['External-IP']).toBe('1.2.3.4,z.example')
    const named = created(resource, { metadata: { name: 'e' }, spec: { type: 'ExternalName', externalName: 'db.example.com' } })
    expect(row(resource, named)).toMatchObject({ 'Type': 'ExternalName', 'External-IP': 'db.example.com', 'Port(s)': '<none>' })
  })
})
