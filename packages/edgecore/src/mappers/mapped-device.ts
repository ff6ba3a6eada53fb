import type { KubeObject } from '@holdfast/kube-api'
import type { DeviceTwin } from '../twins/device-twins.ts'
import type { MappedDevice, MappedProperty, Settings } from './mapper.ts'

/** In lower case; '' where the Device names none. */
export function protocolOf(device: KubeObject): string {
  const name = recordOf(recordOf(device['spec'])['protocol'])['protocolName']
  return typeof name === 'string' ? name.toLowerCase() : ''
}

/**
 * What the Device says to its mapper. A property whose visitors name another protocol, or that has none, is not part of it:
 * somebody else may report it.
 */
export function mappedDevice({ id, device, rules }: DeviceTwin): MappedDevice {
  const spec = recordOf(device['spec'])
  const protocol = protocolOf(device)
  const properties: MappedProperty[] = []
  for (const listed of Array.isArray(spec['properties']) ? spec['properties'] as unknown[] : []) {
    const { name, visitors, collectCycle } = recordOf(listed)
    const { protocolName, configData } = recordOf(visitors)
    if (typeof name !== 'string' || visitors === undefined || visitors === null) continue
    if (typeof protocolName === 'string' && protocolName !== '' && protocolName.toLowerCase() !== protocol) continue
    properties.push({
      name,
      rule: rules.properties?.get(name),
      settings: recordOf(configData),
      collectCycleMs: typeof collectCycle === 'number' && collectCycle > 0 ? collectCycle : undefined
    })
  }
  return { id, settings: recordOf(recordOf(spec['protocol'])['configData']), properties }
}

function recordOf(value: unknown): Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Settings : {}
}
