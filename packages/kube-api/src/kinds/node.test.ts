import { describe, expect, test } from 'vitest'
import { nodes } from './node.ts'
import { created, createFaults, row, updated, updateFaults } from './testing/objects.ts'

const resource = nodes()
const status = {
  conditions: [{ type: 'MemoryPressure', status: 'False' }, { type: 'Ready', status: 'True' }],
  addresses: [{ type: 'Hostname', address: 'edge-1' }, { type: 'InternalIP', address: '10.0.0.7' }, { type: 'InternalIP', address: '10.0.0.8' }],
  nodeInfo: { kubeletVersion: 'v1.32.0', osImage: 'Debian GNU/Linux 12 (bookworm)', kernelVersion: '6.1.0-arm64',
    containerRuntimeVersion: 'containerd://1.6.20' },
  capacity: { cpu: '4' }
}

describe('a Node', () => {
  test('is created with the status that it registers with', () => {
    const node = created(resource, { metadata: { name: 'edge-1' }, status })
    expect(node['status']).toMatchObject({ capacity: { cpu: '4' }, allocatable: { cpu: '4' }, conditions: status.conditions })
  })

  test('that says nothing has what Go writes of it', () => {
    expect(created(resource, { metadata: { name: 'bare' } })).toMatchObject({
      spec: {}, status: { daemonEndpoints: { kubeletEndpoint: { Port: 0 } }, nodeInfo: { machineID: '', architecture: '' } }
    })
  })

  test('changes its status through /status only, and its spec through itself only', () => {
    const node = created(resource, { metadata: { name: 'edge-1' }, status })
    expect(updated(resource, node, { spec: { unschedulable: true } })).toMatchObject({ spec: { unschedulable: true }, status })
    const other = { spec: { unschedulable: true }, status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } }
    const next = updated(resource, node, other, 'status')
    expect(next).toMatchObject({ spec: {}, status: { conditions: [{ status: 'Unknown' }] } })
    expect(next['spec']).not.toHaveProperty('unschedulable')
  })

  test('row', () => {
    const node = created(resource, { metadata: { name: 'edge-1', labels: { 'node-role.kubernetes.io/edge': '', 'kubernetes.io/role': 'agent', 'node-role.kubernetes.io/': '' } }, status })
    expect(row(resource, node)).toEqual({
      'Name': 'edge-1', 'Status': 'Ready', 'Roles': 'agent,edge', 'Age': '5m', 'Version': 'v1.32.0', 'Internal-IP': '10.0.0.7',
      'External-IP': '<none>', 'OS-Image': 'Debian GNU/Linux 12 (bookworm)', 'Kernel-Version': '6.1.0-arm64', 'Container-Runtime': 'containerd://1.6.20'
    })
    expect(row(resource, created(resource, { metadata: { name: 'bare' }, spec: { unschedulable: true } }))).toEqual({
      'Name': 'bare', 'Status': 'Unknown,SchedulingDisabled', 'Roles': '<none>', 'Age': '5m', 'Version': '', 'Internal-IP': '<none>',
      'External-IP': '<none>', 'OS-Image': '<unknown>', 'Kernel-Version': '<unknown>', 'Container-Runtime': '<unknown>'
    })
    const twice = created(resource, { metadata: { name: 'a' }, status: { conditions: [{ type: 'Ready', status: 'False' }, { type: 'Ready', status: 'True' }] } })
    expect(row(resource, twice)['Status']).toBe('Ready')
    const away = created(resource, { metadata: { name: 'a' }, status: { conditions: [{ type: 'Ready', status: 'Unknown' }] } })
    expect(row(resource, away)['Status']).toBe('NotReady')
    expect(resource.columns.filter(({ priority }) => priority === 0).map(({ name }) => name)).toEqual(['Name', 'Status', 'Roles', 'Age', 'Version'])
  })

  test('taints', () => {
    const faults = (taints: { key?: string, value?: string, effect?: string }[]) => createFaults(resource, { metadata: { name: 'n' }, spec: { taints } })
    expect(faults([{ key: 'a.example/b', effect: 'NoExecute' }, { key: 'a.example/b', effect: 'NoSchedule' }])).toEqual([])
    expect(faults([{ key: 'not ok', effect: 'NoExecute' }])).toEqual(['spec.taints[0].key FieldValueInvalid'])
    expect(faults([{ key: 'a', value: 'not ok', effect: 'NoExecute' }])).toEqual(['spec.taints[0].value FieldValueInvalid'])
    expect(faults([{ key: 'a' }])).toEqual(['spec.taints[0].effect FieldValueRequired'])
    expect(faults([{ key: 'a', effect: 'Never' }])).toEqual(['spec.taints[0].effect FieldValueNotSupported'])
    expect(faults([{ key: 'a', effect: 'NoExecute' }, { key: 'a', value: 'x', effect: 'NoExecute' }])).toEqual(['spec.taints[1] FieldValueDuplicate'])
  })

  test('keeps its range of addresses and its machine', () => {
    const node = created(resource, { metadata: { name: 'n' }, spec: { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24'], providerID: 'x://1' } })
    const { spec } = node as unknown as { spec: { podCIDR: string, podCIDRs: string[], providerID: string } }
    expect(updateFaults(resource, node, { spec: { ...spec, unschedulable: true } })).toEqual([])
    expect(updateFaults(resource, node, { spec: { ...spec, podCIDRs: ['10.2.0.0/24'] } })).toEqual(['spec.podCIDRs FieldValueForbidden'])
    expect(updateFaults(resource, node, { spec: { ...spec, providerID: '' } })).toEqual(['spec.providerID FieldValueForbidden'])
  })

  test('has each address once', () => {
    const node = created(resource, { metadata: { name: 'n' } })
    const address = { type: 'InternalIP', address: '10.0.0.7' }
    expect(updateFaults(resource, node, { status: { addresses: [address, { ...address, type: 'Hostname' }] } }, 'status')).toEqual([])
    expect(updateFaults(resource, node, { status: { addresses: [address, address] } }, 'status')).toEqual(['status.addresses[1] FieldValueDuplicate'])
  })

  test('fields', () => {
    expect(resource.selectableFields(created(resource, { metadata: { name: 'n' } }))).toEqual({ 'spec.unschedulable': 'false' })
    expect(resource.selectableFields(created(resource, { metadata: { name: 'n' }, spec: { unschedulable: true } }))).toEqual({ 'spec.unschedulable': 'true' })
  })
})
