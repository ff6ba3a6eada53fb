import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import { kubeKinds } from './kube-kinds.ts'

/** Raised with each change of the definitions below, so that an older cloudcore does not take a newer one's back. */
export const deviceKindsVersion = 1

/** Says which `deviceKindsVersion` a definition in a cluster is of. */
export const deviceKindsAnnotation = 'holdfast.dev/device-kinds'

// ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────────

type Schema = JsonObject

const text = (description: string, more: JsonObject = {}): Schema => ({ type: 'string', description, ...more })
const choice = (description: string, values: readonly string[]): Schema => text(description, { enum: [...values] })
const whole = (description: string, format: 'int32' | 'int64' = 'int64'): Schema => ({ type: 'integer', format, description })
const flag = (description: string): Schema => ({ type: 'boolean', description })
const record = (description: string, properties: Readonly<Record<string, Schema>>, more: JsonObject = {}): Schema =>
  ({ type: 'object', description, properties, ...more })
const list = (description: string, items: Schema): Schema => ({ type: 'array', description, items })
const texts = (description: string): Schema => ({ type: 'object', description, additionalProperties: { type: 'string' } })
/** An object whose members nobody here names; all are kept. */
const anyObject = (description: string): Schema => ({ type: 'object', description, 'x-kubernetes-preserve-unknown-fields': true })

const protocolConfig = (description: string): Schema => record(description, {
  protocolName: text('Name of the protocol: `mqtt`, `http`, or that with which a mapper registers.'),
  configData: anyObject('What the protocol needs to know; any JSON.')
})

const value = (description: string, valueText: string, metadataText: string): Schema => record(description, {
  value: text(valueText),
  metadata: texts(metadataText)
}, { required: ['value'] })

/** Where a mapper sends data by itself. Holdfast hands it to mappers as it is. */
const pushMethod = record('Where the mapper sends the values by itself, besides reporting them.', {
  http: record('To an HTTP server.', {
    hostName: text('Scheme and host.'), port: whole('TCP port.'), requestPath: text('Path on the server.'), timeout: whole('Seconds.')
  }),
  mqtt: record('To an MQTT broker.', {
    address: text('Address of the broker.'), topic: text('Topic to publish to.'), qos: whole('0, 1 or 2.', 'int32'),
    retained: flag('Whether the broker keeps the last value.')
  }),
  otel: record('To an OpenTelemetry collector.', { endpointURL: text('URL of its endpoint.') }),
  dbMethod: record('Into a database.', {
    influxdb2: record('InfluxDB 2.', {
      influxdb2ClientConfig: record('The server.', { url: text('URL.'), org: text('Organization.'), bucket: text('Bucket.') }),
      influxdb2DataConfig: record('Where in it.', {
        measurement: text('Measurement.'), tag: texts('Tags.'), fieldKey: text('Field.')
      })
    }),
    redis: record('Redis.', {
      redisClientConfig: record('The server.', {
        addr: text('Address.'), db: { type: 'integer', description: 'Database number.' },
        poolsize: { type: 'integer', description: 'Connections at most.' },
        minIdleConns: { type: 'integer', description: 'Connections kept open.' }
      })
    }),
    TDEngine: record('TDengine.', { TDEngineClientConfig: record('The server.', { addr: text('Address.'), dbName: text('Database.') }) }),
    mysql: record('MySQL.', {
      mysqlClientConfig: record('The server.', { addr: text('Address.'), database: text('Database.'), userName: text('User.') })
    })
  }),
  anomalyDetection: anyObject('How the mapper looks for anomalies; any JSON.')
})

const deviceProperty = record('A property of this device.', {
  name: text('Name, as the model has it; once in the list.'),
  desired: value('What the property should be. Holdfast tells the device until it reports this value; a node may set it, too.',
    'The value as text: `23`, `true`, `on`, or JSON.', 'Anything about the value; kept with it.'),
  visitors: protocolConfig('How the property is read from the device and written to it.'),
  collectCycle: whole('How often the mapper reads the property, milliseconds.'),
  reportCycle: whole('How often the mapper reports the property, milliseconds.'),
  reportToCloud: flag('`false`: the reported value stays on the node. Default: it goes up into the DeviceStatus.'),
  pushMethod
})

const condition = 'Written by cloudcore, one of each type: `Synced` (the node has every desired value), `Served` (nothing keeps the '
  + 'node from serving the device), `Reachable` (the device, by its state and its node\'s tunnel), `InDesiredState` (the device reports '
  + 'what is desired); each with `status` (True, False, Unknown), `reason`, `message` and `lastTransitionTime`. For '
  + '`kubectl wait --for=condition=Synced device/NAME`.'

const deviceSchema = record('A device on an edge node: which model it is of, how it is reached, and what its properties should be.', {
  spec: record('What the device is and should be.', {
    nodeName: text('The node that the device is at. Without it the device is on none.'),
    deviceModelRef: record('The DeviceModel of the device, in the same namespace. Without one, any property may be written, as text.', {
      name: text('Name of the DeviceModel.', { default: '' })
    }, { 'x-kubernetes-map-type': 'atomic' }),
    protocol: protocolConfig('How the device is reached.'),
    properties: list('The properties of this device that say more than the model does.', deviceProperty),
    methods: list('Names for groups of properties, for applications.', record('A method.', {
      name: text('Name; once in the list.'), description: text('For people.'),
      propertyNames: list('The properties that it is about.', { type: 'string' })
    })),
    stateReport: record('How the device\'s state is reported.', {
      reportToCloud: flag('Whether it goes up.'), reportCycle: whole('How often the mapper reports it, milliseconds.')
    })
  }),
  status: record('What is known of the device; its reported values are in the DeviceStatus of the same name.', {
    reportToCloud: flag('Older name of spec.stateReport.reportToCloud.'),
    reportCycle: whole('Older name of spec.stateReport.reportCycle, milliseconds.'),
    // Of any shape: KubeEdge's definition lets other things be here.
    conditions: { description: condition, nullable: true, 'x-kubernetes-preserve-unknown-fields': true }
  }, { 'x-kubernetes-preserve-unknown-fields': true })
})

const modelSchema = record('What devices of one kind have in common: their properties, with types and bounds.', {
  spec: record('The kind of device.', {
    protocol: text('Name of the protocol that such devices speak.'),
    protocolConfigData: anyObject('What the protocol needs to know of all such devices; any JSON.'),
    properties: list('The properties that such a device has, and no others.', record('A property.', {
      name: text('Name; once in the list.'),
      description: text('For people.'),
      type: choice('INT: whole, up to 2^53−1 either way. FLOAT, DOUBLE: finite. BOOLEAN: `true` or `false`. STRING, STREAM: any text. '
        + 'BYTES: base64. Without it: any value.', ['INT', 'FLOAT', 'DOUBLE', 'STRING', 'BOOLEAN', 'BYTES', 'STREAM']),
      accessMode: choice('ReadOnly: the device reports it, and nobody sets it.', ['ReadWrite', 'ReadOnly']),
      minimum: text('The least number that is allowed, as text.'),
      maximum: text('The largest number that is allowed, as text.'),
      unit: text('For people.'),
      visitors: protocolConfig('How the property is read and written, where the Device does not say.')
    }))
  })
})

const twinValue = (description: string): Schema => value(description, 'The value as text, as in the Device.',
  '`timestamp` in milliseconds since 1970, `type` as the device named it, and for desired values `version`.')

const statusSchema = record('What a device reports. Made by cloudcore for the Device of the same name, which owns it.', {
  spec: { type: 'object', description: 'Empty.' },
  status: record('What the device said last.', {
    state: text('online, offline, ok, unknown or unhealthy.'),
    lastOnlineTime: text('When the device was last known to be online, RFC 3339.'),
    twins: list('One for each property.', record('A property.', {
      propertyName: text('Name of the property.'),
      reported: twinValue('What the device says that it is.'),
      observedDesired: twinValue('What the node knows that it should be.')
    })),
    extensions: anyObject('Of whoever wants to say more of the device; kept.')
  })
})

// ── definitions ──────────────────────────────────────────────────────────────────────────────────────────────────────

interface Column { readonly name: string, readonly jsonPath: string, readonly description: string, readonly more?: JsonObject }

interface DeviceKind {
  readonly plural: string
  readonly kind: string
  readonly shortNames: readonly string[]
  readonly schema: Schema
  readonly columns: readonly Column[]
}

const wide = { priority: 1 }

function conditionColumn(name: string, description: string): Column {
  return { name, jsonPath: `.status.conditions[?(@.type=="${name}")].status`, description }
}

const deviceKinds: readonly DeviceKind[] = [
  {
    plural: kubeKinds.deviceModels.plural, kind: 'DeviceModel', shortNames: ['devmodel'], schema: modelSchema,
    columns: [{ name: 'Protocol', jsonPath: '.spec.protocol', description: 'What such devices speak.' }]
  },
  {
    plural: kubeKinds.devices.plural, kind: 'Device', shortNames: ['dev'], schema: deviceSchema,
    columns: [
      { name: 'Node', jsonPath: '.spec.nodeName', description: 'Where the device is.' },
      { name: 'Model', jsonPath: '.spec.deviceModelRef.name', description: 'Its DeviceModel.' },
      conditionColumn('Synced', 'The node has every desired value.'),
      conditionColumn('Served', 'Nothing keeps the node from serving the device.'),
      conditionColumn('Reachable', 'The device can be reached.'),
      conditionColumn('InDesiredState', 'The device reports what is desired.'),
      { name: 'Protocol', jsonPath: '.spec.protocol.protocolName', description: 'How the device is reached.', more: wide },
      {
        name: 'Why', jsonPath: '.status.conditions[?(@.status!="True")].message',
        description: 'What the first condition that is not True says.', more: wide
      }
    ]
  },
  {
    plural: kubeKinds.deviceStatuses.plural, kind: 'DeviceStatus', shortNames: ['devstatus'], schema: statusSchema,
    columns: [
      { name: 'State', jsonPath: '.status.state', description: 'What the device says of itself.' },
      { name: 'LastOnline', jsonPath: '.status.lastOnlineTime', description: 'When it was last online.', more: { type: 'date' } }
    ]
  }
]

const age = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }

const versionSchema = ({ description, properties, ...more }: JsonObject): JsonObject => ({
  type: 'object', description: description!, ...more, properties: {
    apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: { type: 'object' }, ...properties as JsonObject
  }
})

function definitionOf({ plural, kind, shortNames, schema, columns }: DeviceKind): KubeObject {
  const { group, version } = kubeKinds.devices
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${group}`,
      annotations: { [deviceKindsAnnotation]: String(deviceKindsVersion) },
      labels: { 'app.kubernetes.io/part-of': 'holdfast' }
    },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase(), shortNames: [...shortNames], categories: ['holdfast'] },
      versions: [
        {
          name: version, served: true, storage: true,
          schema: { openAPIV3Schema: versionSchema(schema) },
          additionalPrinterColumns: [
            ...columns.map(({ name, jsonPath, description, more }) => ({ name, type: 'string', jsonPath, description, ...more })), age
          ]
        },
        {
          name: 'v1alpha2', served: true, storage: false, deprecated: true,
          deprecationWarning: `${group}/v1alpha2 ${kind} is deprecated; use ${group}/${version}: what only v1alpha2 has does nothing`,
          schema: { openAPIV3Schema: {
            type: 'object', description: 'An older form, taken so that nothing is refused. Its own fields do nothing.',
            'x-kubernetes-preserve-unknown-fields': true
          } }
        }
      ]
    }
  }
}

/**
 * The CustomResourceDefinitions of `devices.kubeedge.io`, models first. They take every object that KubeEdge v1.23's take and
 * drop no field that those keep; deploy/crds has them as YAML, written from here by `npm run docs`.
 */
export const deviceDefinitions: readonly KubeObject[] = deviceKinds.map(definitionOf)
