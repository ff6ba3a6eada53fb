import type { StatusCause } from '../status-error.ts'
import { duplicateValue, forbiddenValue, invalidValue, requiredValue } from '../validation/causes.ts'
import { configMapKeyErrors, dns1123LabelErrors } from '../validation/names.ts'
import { eachCause } from './each-cause.ts'
import type { DownwardItem, KeyToPath, ProjectedSource, Volume } from './pod-types.ts'

/** In the order in which the real server looks at them, which decides which of two is told as one too many. */
const volumeSources = [
  'emptyDir', 'hostPath', 'gitRepo', 'gcePersistentDisk', 'awsElasticBlockStore', 'secret', 'nfs', 'iscsi', 'glusterfs', 'flocker',
  'persistentVolumeClaim', 'rbd', 'cinder', 'cephfs', 'quobyte', 'downwardAPI', 'fc', 'flexVolume', 'configMap', 'azureFile',
  'vsphereVolume', 'photonPersistentDisk', 'portworxVolume', 'azureDisk', 'storageos', 'projected', 'scaleIO', 'csi', 'ephemeral', 'image'
] as const

/**
 * Causes for a Pod's volumes. The members of sources that need a cloud or a storage cluster are not looked at beyond their
 * types.
 */
export function volumeCauses(volumes: readonly Volume[], field: string): StatusCause[] {
  const names = new Set<string>()
  return eachCause(volumes, (volume, i) => {
    const { name = '' } = volume
    const at = `${field}[${i}]`
    const causes = sourceCauses(volume, at)
    if (name === '') causes.push(requiredValue(`${at}.name`))
    else causes.push(...dns1123LabelErrors(name).map(error => invalidValue(`${at}.name`, name, error)))
    if (name !== '' && names.has(name)) causes.push(duplicateValue(`${at}.name`, name))
    names.add(name)
    return causes
  })
}

function sourceCauses(volume: Volume, field: string): StatusCause[] {
  const [first, ...others] = volumeSources.filter(source => volume[source] !== undefined)
  if (first === undefined) return [requiredValue(field, 'must specify a volume type')]
  const causes = others.map(source => forbiddenValue(`${field}.${source}`, 'may not specify more than 1 volume type'))
  const at = `${field}.${first}`
  switch (first) {
    case 'hostPath': return [...pathCauses(volume.hostPath?.path, `${at}.path`), ...causes]
    case 'secret': {
      const { secretName, items, defaultMode } = volume.secret ?? {}
      return [
        ...required(secretName, `${at}.secretName`), ...modeCauses(defaultMode, `${at}.defaultMode`), ...itemCauses(items, at), ...causes
      ]
    }
    case 'configMap': {
      const { name, items, defaultMode } = volume.configMap ?? {}
      return [...required(name, `${at}.name`), ...modeCauses(defaultMode, `${at}.defaultMode`), ...itemCauses(items, at), ...causes]
    }
    case 'downwardAPI': {
      const { items, defaultMode } = volume.downwardAPI ?? {}
      return [...modeCauses(defaultMode, `${at}.defaultMode`), ...downwardCauses(items, at), ...causes]
    }
    case 'projected': {
      const { sources = [], defaultMode } = volume.projected ?? {}
      return [
        ...modeCauses(defaultMode, `${at}.defaultMode`),
        ...eachCause(sources, (source, i) => projectedCauses(source, `${at}.sources[${i}]`)), ...causes
      ]
    }
    case 'persistentVolumeClaim': return [...required(volume.persistentVolumeClaim?.claimName, `${at}.claimName`), ...causes]
    case 'nfs': {
      const { server, path = '' } = volume.nfs ?? {}
      const absolute = path === '' || path.startsWith('/') ? [] : [invalidValue(`${at}.path`, path, 'must be an absolute path')]
      return [...required(server, `${at}.server`), ...required(path, `${at}.path`), ...absolute, ...causes]
    }
    case 'image': return [...required(volume.image?.reference, `${at}.reference`), ...causes]
    default: return causes
  }
}

const required = (value: string | undefined, field: string): StatusCause[] => (value ?? '') === '' ? [requiredValue(field)] : []

const goesUp = (path: string): boolean => path.split('/').includes('..')

function pathCauses(path: string | undefined, field: string): StatusCause[] {
  if (path === undefined) return [requiredValue(field)]
  return goesUp(path) ? [invalidValue(field, path, 'must not contain \'..\'')] : []
}

const modeCauses = (mode: number | undefined, field: string): StatusCause[] => mode !== undefined && (mode < 0 || mode > 0o777)
  ? [invalidValue(field, mode, 'must be a number between 0 and 0777 (octal), both inclusive')]
  : []

/** A path below the volume: relative, and it leads nowhere else. */
export function localPathCauses(path: string, field: string): StatusCause[] {
  if (path.startsWith('/')) return [invalidValue(field, path, 'must be a relative path')]
  return goesUp(path) ? [invalidValue(field, path, 'must not contain \'..\'')] : []
}

function filePathCauses(path: string | undefined, field: string): StatusCause[] {
  if (path === undefined) return [requiredValue(field)]
  const causes = localPathCauses(path, field)
  if (path.startsWith('..') && causes.length === 0) causes.push(invalidValue(field, path, 'must not start with \'..\''))
  return causes
}

function itemCauses(items: readonly KeyToPath[] | undefined, field: string): StatusCause[] {
  return eachCause(items ?? [], ({ key = '', path, mode }, i) => {
    const at = `${field}.items[${i}]`
    const keyCauses = key === ''
      ? [requiredValue(`${at}.key`)]
      : configMapKeyErrors(key).map(error => invalidValue(`${at}.key`, key, error))
    return [...keyCauses, ...filePathCauses(path, `${at}.path`), ...modeCauses(mode, `${at}.mode`)]
  })
}

function downwardCauses(items: readonly DownwardItem[] | undefined, field: string): StatusCause[] {
  return eachCause(items ?? [], ({ path, fieldRef, resourceFieldRef, mode }, i) => {
    const at = `${field}[${i}]`
    const reference = fieldRef === undefined && resourceFieldRef === undefined
      ? [requiredValue(at, 'one of fieldRef and resourceFieldRef is required')]
      : fieldRef === undefined ? [] : required(fieldRef.fieldPath, `${at}.fieldRef.fieldPath`)
    const both = fieldRef !== undefined && resourceFieldRef !== undefined
      ? [invalidValue(at, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously')]
      : []
    return [...filePathCauses(path, `${at}.path`), ...reference, ...both, ...modeCauses(mode, `${at}.mode`)]
  })
}

function projectedCauses(source: ProjectedSource, field: string): StatusCause[] {
  const [first, ...others] = ['secret', 'configMap', 'downwardAPI', 'serviceAccountToken', 'clusterTrustBundle', 'podCertificate']
    .filter(name => source[name] !== undefined)
  if (first === undefined) return [requiredValue(field, 'must specify at least one projected source')]
  const causes = others.map(name => forbiddenValue(`${field}.${name}`, 'may not specify more than 1 volume type per source'))
  const { secret, configMap, downwardAPI, serviceAccountToken } = source
  if (secret !== undefined) causes.push(...required(secret.name, `${field}.secret.name`), ...itemCauses(secret.items, `${field}.secret`))
  if (configMap !== undefined) {
    causes.push(...required(configMap.name, `${field}.configMap.name`), ...itemCauses(configMap.items, `${field}.configMap`))
  }
  if (downwardAPI !== undefined) causes.push(...downwardCauses(downwardAPI.items, `${field}.downwardAPI`))
  if (serviceAccountToken !== undefined) {
    const { expirationSeconds = 0, path } = serviceAccountToken
    const at = `${field}.serviceAccountToken`
    if (expirationSeconds < 600) {
      causes.push(invalidValue(`${at}.expirationSeconds`, expirationSeconds, 'may not specify a duration less than 10 minutes'))
    }
    causes.push(...filePathCauses(path, `${at}.path`))
  }
  return causes
}
