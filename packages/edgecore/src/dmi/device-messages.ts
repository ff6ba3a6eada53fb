import { createHash } from 'node:crypto'
import { create, toBinary } from '@bufbuild/protobuf'
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  BoolValueSchema, FloatValueSchema, Int64ValueSchema, StringValueSchema, anyPack
} from '@bufbuild/protobuf/wkt'
import type { Any } from '@bufbuild/protobuf/wkt'
import { delta, textOf } from '@holdfast/device-twin'
import type { Entry } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { DeviceModelSchema, DeviceSchema } from '@holdfast/protos/dmi'
import type { Device, DeviceModel, DevicePropertySchema, PushMethodSchema, TwinPropertySchema } from '@holdfast/protos/dmi'
import type { DeviceTwin } from '../twins/device-twins.ts'
import { namespaceOf, recordOf } from './served-devices.ts'
import type { JsonRecord } from './served-devices.ts'

/**
 * The Device as mappers know it (DMI-20 … DMI-24): what the object says, over the defaults of its model, and of the twin the
 * desired values that the model allows.
 */
export function deviceMessage(device: DeviceTwin): Device { return create(DeviceSchema, deviceParts(device, true)) }

/**
 * What tells a device or model from its earlier forms (DMI-24): equal as long as there is nothing to tell. Kept for each
 * value of a device or model, since many ask.
 */
export class Fingerprints {
  readonly #devices = new WeakMap<DeviceTwin, string>()
  readonly #models = new WeakMap<KubeObject, string>()

  /** Without reported values and timestamps, and with its model as the mapper has it. */
  device(device: DeviceTwin, model: string | undefined): string {
    let print = this.#devices.get(device)
    if (print === undefined) {
      print = fingerprint(toBinary(DeviceSchema, create(DeviceSchema, deviceParts(device, false))))
      this.#devices.set(device, print)
    }
    return `${print}/${model ?? ''}`
  }

  model(model: KubeObject): string {
    let print = this.#models.get(model)
    if (print === undefined) {
      print = fingerprint(toBinary(DeviceModelSchema, modelMessage(model)))
      this.#models.set(model, print)
    }
    return print
  }
}

export function modelMessage(model: KubeObject): DeviceModel {
  return create(DeviceModelSchema, {
    name: model.metadata.name ?? '',
    namespace: namespaceOf(model),
    spec: {
      properties: recordsIn(recordOf(model['spec'])['properties']).map(property => ({
        name: textIn(property['name']), description: textIn(property['description']), type: textIn(property['type']),
        accessMode: textIn(property['accessMode']), minimum: textIn(property['minimum']), maximum: textIn(property['maximum']),
        unit: textIn(property['unit'])
      }))
    }
  })
}

/** Desired values of listed properties that the model allows and that are not reported: what a mapper is told again (DMI-25). */
export function unsatisfied({ device, twin, rules }: DeviceTwin): string[] {
  if (twin.desired.size === 0) return []
  const wanted = delta(twin, rules)
  if (wanted.size === 0) return []
  return recordsIn(recordOf(device['spec'])['properties']).map(({ name }) => textIn(name)).filter(name => wanted.has(name))
}

/** The longest time that the Device gives these properties to be collected and reported in, milliseconds. */
export function cycleMs({ device }: DeviceTwin, properties: readonly string[]): number {
  return Math.max(0, ...recordsIn(recordOf(device['spec'])['properties'])
    .filter(({ name }) => properties.includes(textIn(name)))
    .flatMap(({ reportCycle, collectCycle }) => [Number(wholeIn(reportCycle)), Number(wholeIn(collectCycle))]))
}

function fingerprint(bytes: Uint8Array): string { return createHash('sha256').update(bytes).digest('base64url').slice(0, 22) }

function deviceParts({ device, model, rules, twin }: DeviceTwin, whole: boolean): MessageInitShape<typeof DeviceSchema> {
  const spec = recordOf(device['spec'])
  const modelSpec = recordOf(model?.['spec'])
  const defaults = new Map(recordsIn(modelSpec['properties'])
    .map(({ name, visitors }) => [textIn(name), recordOf(visitors)]))
  const protocol = recordOf(spec['protocol'])
  const stateReport = recordOf(spec['stateReport'])
  // As if nothing were reported: every desired value that the model allows (TWN-25).
  const wanted = delta({ ...twin, reported: new Map() }, rules)
  const properties = recordsIn(spec['properties']).map((property): MessageInitShape<typeof DevicePropertySchema> => {
    const name = textIn(property['name'])
    const desired = wanted.has(name) ? twin.desired.get(name) : undefined
    const type = rules.properties?.get(name)?.type
    return {
      name,
      desired: desired === undefined ? {} : twinProperty({ ...desired, value: wanted.get(name)! }, type, whole),
      visitors: configured(recordOf(property['visitors']), defaults.get(name) ?? {}),
      reportCycle: wholeIn(property['reportCycle']),
      collectCycle: wholeIn(property['collectCycle']),
      reportToCloud: property['reportToCloud'] === true,
      ...isRecord(property['pushMethod']) ? { pushMethod: pushMethod(property['pushMethod']) } : {}
    }
  })
  return {
    name: device.metadata.name ?? '',
    namespace: namespaceOf(device),
    spec: {
      deviceModelReference: textIn(recordOf(spec['deviceModelRef'])['name']),
      protocol: configured(protocol, { configData: modelSpec['protocolConfigData'] }),
      properties,
      methods: recordsIn(spec['methods']).map(method => ({
        name: textIn(method['name']), description: textIn(method['description']),
        propertyNames: (Array.isArray(method['propertyNames']) ? method['propertyNames'] as unknown[] : []).map(textIn)
      }))
    },
    status: {
      reportToCloud: stateReport['reportToCloud'] === true,
      reportCycle: wholeIn(stateReport['reportCycle']),
      twins: whole
        ? properties.flatMap(({ name, desired }) => {
            const reported = twin.reported.get(name!)
            return reported === undefined || reported.deleted === true ? [] : [{
              propertyName: name!, observedDesired: desired!,
              reported: twinProperty(reported, rules.properties?.get(name!)?.type, true)
            }]
          })
        : []
    }
  }
}

function twinProperty(entry: Entry, modelType: string | undefined, whole: boolean): MessageInitShape<typeof TwinPropertySchema> {
  const type = modelType ?? entry.type
  return {
    value: textOf(entry.value),
    metadata: {
      ...type === undefined ? {} : { type },
      ...whole ? { timestamp: String(entry.timestamp) } : {}
    }
  }
}

/** A protocol or a visitor: the Device's own settings over the model's. Always there: mappers read it without asking. */
function configured(own: JsonRecord, defaults: JsonRecord): {
  protocolName: string, configData?: { data: Record<string, Any> }
} {
  const protocolName = textIn(own['protocolName']) || textIn(defaults['protocolName'])
  const given = isRecord(own['configData']) || isRecord(defaults['configData'])
  const data = customized({ ...recordOf(defaults['configData']), ...recordOf(own['configData']) })
  return given ? { protocolName, configData: { data } } : { protocolName }
}

/** DMI-22. In the order of the names, so that the order in the object makes no difference. */
function customized(values: JsonRecord): Record<string, Any> {
  const data: [string, Any][] = []
  for (const name of Object.keys(values).toSorted()) {
    const value = values[name]
    if (value !== null && value !== undefined) data.push([name, wrapped(value)])
  }
  return Object.fromEntries(data)
}

function wrapped(value: unknown): Any {
  switch (typeof value) {
    case 'string': return anyPack(StringValueSchema, create(StringValueSchema, { value }))
    case 'boolean': return anyPack(BoolValueSchema, create(BoolValueSchema, { value }))
    case 'number': return Number.isSafeInteger(value)
      ? anyPack(Int64ValueSchema, create(Int64ValueSchema, { value: BigInt(value) }))
      : anyPack(FloatValueSchema, create(FloatValueSchema, { value: Math.fround(value) }))
    default: return anyPack(StringValueSchema, create(StringValueSchema, { value: JSON.stringify(value) }))
  }
}

function pushMethod(method: JsonRecord): MessageInitShape<typeof PushMethodSchema> {
  const { http, mqtt, otel, dbMethod, anomalyDetection } = method
  return {
    ...isRecord(http) ? { http: {
      hostname: textIn(http['hostName']), port: wholeIn(http['port']), requestpath: textIn(http['requestPath']),
      timeout: wholeIn(http['timeout'])
    } } : {},
    ...isRecord(mqtt) ? { mqtt: {
      address: textIn(mqtt['address']), topic: textIn(mqtt['topic']), qos: smallIn(mqtt['qos']),
      retained: mqtt['retained'] === true
    } } : {},
    ...isRecord(otel) ? { otel: { endpointURL: textIn(otel['endpointURL']) } } : {},
    ...isRecord(dbMethod) ? { dbMethod: databaseMethod(dbMethod) } : {},
    ...isRecord(anomalyDetection) ? { anomalyDetection: { data: customized(anomalyDetection) } } : {}
  }
}

function databaseMethod({ influxdb2, redis, TDEngine: tdEngine, mysql }: JsonRecord):
  NonNullable<MessageInitShape<typeof PushMethodSchema>['dbMethod']> {
  const parts = (method: unknown, name: string): JsonRecord => recordOf(recordOf(method)[name])
  const client = parts(influxdb2, 'influxdb2ClientConfig')
  const data = parts(influxdb2, 'influxdb2DataConfig')
  const redisClient = parts(redis, 'redisClientConfig')
  const tdEngineClient = parts(tdEngine, 'TDEngineClientConfig')
  const mysqlClient = parts(mysql, 'mysqlClientConfig')
  return {
    ...isRecord(influxdb2) ? { influxdb2: {
      influxdb2ClientConfig: { url: textIn(client['url']), org: textIn(client['org']), bucket: textIn(client['bucket']) },
      influxdb2DataConfig: {
        measurement: textIn(data['measurement']), fieldKey: textIn(data['fieldKey']),
        tag: textsIn(data['tag'])
      }
    } } : {},
    ...isRecord(redis) ? { redis: { redisClientConfig: {
      addr: textIn(redisClient['addr']), db: smallIn(redisClient['db']), poolsize: smallIn(redisClient['poolsize']),
      minIdleConns: smallIn(redisClient['minIdleConns'])
    } } } : {},
    ...isRecord(tdEngine) ? { tdengine: { tdEngineClientConfig: {
      addr: textIn(tdEngineClient['addr']), dbname: textIn(tdEngineClient['dbName'])
    } } } : {},
    ...isRecord(mysql) ? { mysql: { mysqlClientConfig: {
      addr: textIn(mysqlClient['addr']), database: textIn(mysqlClient['database']), userName: textIn(mysqlClient['userName'])
    } } } : {}
  }
}

const isRecord = (value: unknown): value is JsonRecord => typeof value === 'object' && value !== null && !Array.isArray(value)
const recordsIn = (value: unknown): JsonRecord[] => Array.isArray(value) ? (value as unknown[]).filter(isRecord) : []
/** Bounds of a model are text, and numbers in other hands. */
const textIn = (value: unknown): string => typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
/** In the order of the names. */
const textsIn = (value: unknown): Record<string, string> =>
  Object.fromEntries(Object.keys(recordOf(value)).toSorted().map(name => [name, textIn(recordOf(value)[name])]))
const wholeIn = (value: unknown): bigint => Number.isSafeInteger(value) ? BigInt(value as number) : 0n
const smallIn = (value: unknown): number =>
  Number.isSafeInteger(value) ? Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, value as number)) : 0
