import type { DescMessage, DescMethodUnary, MessageShape } from '@bufbuild/protobuf'
import { emptyTwin, readRules } from '@holdfast/device-twin'
import type { Json, Twin } from '@holdfast/device-twin'
import type { KubeObject } from '@holdfast/kube-api'
import { turns } from '@holdfast/runtime/testing'
import type { DeviceTwin } from '../../twins/device-twins.ts'
import { parseDeviceId } from '../../twins/device-twins.ts'
import type { CallFailure, DialMapper, MapperConnection } from '../mapper-connection.ts'

/** A mapper without a socket: says what it is called for, and answers as the test says. */
export class SimulatedMapper {
  /** `RegisterDevice default/a`, in order. */
  readonly calls: string[] = []
  /** Messages of `calls`. */
  readonly messages: unknown[] = []
  /** By the device or model, or by the whole call. */
  readonly answers = new Map<string, CallFailure | 'hang'>()
  reachable = true
  dials = 0
  inFlight = 0
  inFlightMax = 0
  #break: (() => void) | undefined
  #hanging: ((failure: CallFailure) => void)[] = []

  readonly dial: DialMapper = () => {
    this.dials++
    if (!this.reachable) return Promise.reject(new Error('nobody listens'))
    const closed = new Promise<void>(resolve => { this.#break = resolve })
    const connection: MapperConnection = {
      closed,
      close: () => this.#break?.(),
      call: (method, message) => this.#called(method, message)
    }
    return Promise.resolve(connection)
  }

  /** The connection ends; what hangs is not answered. */
  async disconnect(): Promise<void> {
    this.#break?.()
    await turns()
    this.expire()
    await turns()
  }

  /** The deadline of calls that hang has passed. */
  expire(): void {
    for (const answer of this.#hanging.splice(0)) answer({ kind: 'unanswered', reason: 'DEADLINE_EXCEEDED: it hangs' })
  }

  /** The calls since this was asked last. */
  take(): string[] {
    this.messages.length = 0
    return this.calls.splice(0)
  }

  async #called<Input extends DescMessage, Output extends DescMessage>(
    method: DescMethodUnary<Input, Output>, message: MessageShape<Input>
  ): Promise<CallFailure | undefined> {
    const fields = message as unknown as Record<string, unknown>
    const subject = (fields['device'] ?? fields['model']) as { namespace: string, name: string } | undefined
    const id = subject !== undefined ? `${subject.namespace}/${subject.name}`
      : `${String(fields['deviceNamespace'] ?? fields['modelNamespace'])}/${String(fields['deviceName'] ?? fields['modelName'])}`
    this.calls.push(`${method.name} ${id}`)
    this.messages.push(message)
    this.inFlight++
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight)
    const answer = this.answers.get(`${method.name} ${id}`) ?? this.answers.get(id)
    const failure = answer === 'hang' ? await new Promise<CallFailure>(resolve => { this.#hanging.push(resolve) }) : answer
    await Promise.resolve()
    this.inFlight--
    return failure
  }
}

export interface TwinParts {
  readonly protocol?: string
  readonly model?: KubeObject | string
  readonly desired?: Readonly<Record<string, Json>>
  readonly reported?: Readonly<Record<string, Json>>
  readonly properties?: readonly Readonly<Record<string, unknown>>[]
  readonly spec?: Readonly<Record<string, unknown>>
}

const entries = (values: Readonly<Record<string, Json>> = {}): Twin['desired'] => new Map(Object.entries(values).map(([name, value], i) =>
  [name, { value, version: { time: 1000 + i, counter: 0, origin: 'cloud/00000001' }, timestamp: 1_700_000_000_000 + i }]))

/** A device as the twins have it; a model given by name alone is not here. */
export function deviceTwin(id: string, { protocol = 'modbus', model, desired, reported, properties, spec }: TwinParts = {}): DeviceTwin {
  const [namespace = '', name = ''] = id.split('/')
  const object = typeof model === 'string' ? undefined : model
  const modelName = typeof model === 'string' ? model : model?.metadata.name
  const device: KubeObject = {
    apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { namespace, name, uid: `uid-${id}` },
    spec: {
      ...modelName !== undefined && { deviceModelRef: { name: modelName } }, nodeName: 'edge-1', protocol: { protocolName: protocol },
      properties: properties ?? Object.keys({ ...desired, ...reported }).map(each => ({ name: each })), ...spec
    }
  }
  return {
    id: parseDeviceId(id)!, uid: `uid-${id}`, device, model: object, rules: readRules({ device, model: object, freshnessMs: 60_000 }),
    twin: { ...emptyTwin, desired: entries(desired), reported: entries(reported) }
  }
}

export function deviceModel(id: string, properties: readonly Readonly<Record<string, unknown>>[] = [], spec: object = {}): KubeObject {
  const [namespace = '', name = ''] = id.split('/')
  return { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'DeviceModel', metadata: { namespace, name }, spec: { properties, ...spec } }
}
