import type { Device, DeviceModel } from '@holdfast/protos/dmi'
import { SeededRandom, silentLog } from '@holdfast/runtime'
import { HandClock, turns } from '@holdfast/runtime/testing'
import { Committer, MemoryStore } from '@holdfast/store'
import { expect, test } from 'vitest'
import type { DeviceTwin } from '../twins/device-twins.ts'
import { Fingerprints, deviceMessage, modelMessage } from './device-messages.ts'
import type { CallFailure, DialMapper } from './mapper-connection.ts'
import { MapperMemory } from './mapper-memory.ts'
import type { TellingKey } from './mapper-memory.ts'
import { MapperQueue } from './mapper-queue.ts'
import { modelIdOf } from './served-devices.ts'
import { deviceModel, deviceTwin } from './testing/simulated-mapper.ts'

const registration = { name: 'm', version: '', apiVersion: '', protocol: 'modbus', address: '/run/m.sock' }
const ids = ['default/a', 'default/b', 'default/c', 'other/a', 'other/d']
const modelIds = ['default/m', 'default/n', 'other/m']
const runs = Number(process.env['RUNS'] ?? 150)
const firstSeed = Number(process.env['SEED'] ?? 1)

interface Pending { readonly run: () => CallFailure | undefined, readonly answer: (failure: CallFailure | undefined) => void }

/** A mapper as KubeEdge's framework has them; its calls are done, or not, when the test says so. */
class FrameworkMapper {
  devices = new Map<string, Device>()
  models = new Map<string, DeviceModel>()
  readonly pending: Pending[] = []
  readonly wrong: string[] = []
  reachable = true
  #break: (() => void) | undefined

  readonly dial: DialMapper = async () => {
    if (!this.reachable) throw new Error('nobody listens')
    this.#break?.()
    return {
      closed: new Promise(resolve => { this.#break = resolve }),
      close: () => this.#break?.(),
      call: (method, message) => new Promise(resolve => {
        this.pending.push({ run: () => this.#run(method.name, message), answer: resolve })
      })
    }
  }

  /** What is under way is done or not; nobody hears of it. */
  disconnect(random: SeededRandom): void {
    for (const { run, answer } of this.pending.splice(0)) {
      if (random.next() < 0.5) run()
      answer({ kind: 'unanswered', reason: 'UNAVAILABLE' })
    }
    this.#break?.()
  }

  restart(): void {
    this.devices = new Map()
    this.models = new Map()
  }

  #run(method: string, message: unknown): CallFailure | undefined {
    const fields = message as { device?: Device, model?: DeviceModel } & Record<string, string>
    const refuse = (reason: string): CallFailure => ({ kind: 'refused', reason })
    const { device, model } = fields
    switch (method) {
      case 'RegisterDevice':
      case 'UpdateDevice': {
        const id = `${device!.namespace}/${device!.name}`
        const reference = device!.spec!.deviceModelReference
        if (reference !== '' && !this.models.has(`${device!.namespace}/${reference}`)) return refuse('model not found')
        if (method === 'UpdateDevice' || !this.devices.has(id)) this.devices.set(id, device!)
        return undefined
      }
      case 'RemoveDevice':
        return this.devices.delete(`${fields['deviceNamespace']}/${fields['deviceName']}`) ? undefined : refuse('no such device')
      case 'CreateDeviceModel':
      case 'UpdateDeviceModel':
        this.models.set(`${model!.namespace}/${model!.name}`, model!)
        return undefined
      default: {
        const id = `${fields['modelNamespace']}/${fields['modelName']}`
        const user = [...this.devices.values()].find(each => `${each.namespace}/${each.spec!.deviceModelReference}` === id)
        if (user !== undefined) this.wrong.push(`${id} is removed while ${user.name} uses it`)
        return this.models.delete(id) ? undefined : refuse('no such model')
      }
    }
  }
}

async function run(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const below = (n: number): number => Math.floor(random.next() * n)
  const [clock, store, prints, mapper] = [new HandClock(), new MemoryStore(), new Fingerprints(), new FrameworkMapper()]
  const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  let memory = await MapperMemory.open(store, committer)
  await memory.remember(registration)
  const devices = new Map<string, DeviceTwin>()
  /** The version that a model has; undefined: it is not here. */
  const versions = new Map<string, number>()
  const counters = { applied: 0, refused: 0, unanswered: 0 }
  let isHealed = false
  const make = (id: string, model: string | undefined, target: number): DeviceTwin => {
    const version = model === undefined ? undefined : versions.get(model)
    const object = model === undefined || version === undefined ? undefined
      : deviceModel(model, [{ name: 'target', type: 'INT', maximum: String(1_000_000 + version) }])
    return deviceTwin(id, { desired: { target }, reported: { target }, ...model !== undefined && { model: object ?? model.split('/')[1]! } })
  }
  let queue: MapperQueue
  const begin = (answered?: ReadonlyMap<TellingKey, string>): void => {
    queue?.close()
    queue = new MapperQueue(registration, devices.values(), answered, { callsMax: 3 }, {
      dial: mapper.dial, memory, served: id => devices.get(id), fingerprints: prints, counters, clock, random, log: silentLog
    })
  }
  const put = (id: string, twin: DeviceTwin | undefined): void => {
    if (twin === undefined) devices.delete(id)
    else devices.set(id, twin)
    queue.changed(id)
  }
  const modelOf = (id: string): string | undefined => {
    const mine = modelIds.filter(model => model.split('/')[0] === id.split('/')[0])
    return below(4) === 0 ? undefined : mine[below(mine.length)]
  }
  const finish = (i: number): void => {
    const [call] = mapper.pending.splice(i, 1)
    const luck = isHealed ? 1 : random.next()
    if (luck < 0.1) call!.answer({ kind: 'refused', reason: 'UNKNOWN: not now' })
    else if (luck < 0.15) call!.answer({ kind: 'unanswered', reason: 'DEADLINE_EXCEEDED' })
    else if (luck < 0.2) {
      call!.run()
      call!.answer({ kind: 'unanswered', reason: 'DEADLINE_EXCEEDED' })
    } else call!.answer(call!.run())
  }
  begin()
  for (let step = 0; step < 120; step++) {
    const id = ids[below(ids.length)]!
    switch (below(12)) {
      case 0: case 1: case 2: put(id, make(id, modelOf(id), below(100))); break
      case 3: put(id, undefined); break
      case 4: {
        const model = modelIds[below(modelIds.length)]!
        if (below(3) === 0) versions.delete(model)
        else versions.set(model, below(100))
        for (const [each, twin] of devices) {
          if (modelIdOf(twin.device) === model) put(each, make(each, model, twin.twin.desired.get('target')!.value as number))
        }
        break
      }
      case 5:
        mapper.reachable = below(3) > 0
        mapper.disconnect(random)
        if (below(2) === 0) mapper.restart()
        break
      case 6: mapper.reachable = true; break
      case 7: {
        // edgecore starts anew.
        queue!.close()
        mapper.disconnect(random)
        await committer.flush()
        memory = await MapperMemory.open(store, committer)
        begin()
        break
      }
      case 8: {
        // The mapper starts anew, and registers.
        mapper.disconnect(random)
        mapper.restart()
        mapper.reachable = true
        const answered = new Map<TellingKey, string>()
        for (const [each, twin] of devices) {
          const model = modelIdOf(twin.device)
          if ((model !== undefined && twin.model === undefined) || below(4) === 0) continue
          const print = twin.model === undefined ? undefined : prints.model(twin.model)
          if (model !== undefined) {
            answered.set(`model/${model}`, print!)
            mapper.models.set(model, modelMessage(twin.model!))
          }
          answered.set(`device/${each}`, prints.device(twin, print))
          mapper.devices.set(each, deviceMessage(twin))
        }
        begin(answered)
        break
      }
      default: if (mapper.pending.length > 0) finish(below(mapper.pending.length))
    }
    await turns()
    if (below(3) === 0) await clock.pass(below(5_000))
  }
  isHealed = true
  mapper.reachable = true
  for (let i = 0; i < 400 && (queue!.status.waiting > 0 || mapper.pending.length > 0 || i < 5); i++) {
    while (mapper.pending.length > 0) {
      finish(0)
      await turns()
    }
    await clock.pass(60_000)
  }
  const told = (device: DeviceTwin): boolean => modelIdOf(device.device) === undefined || device.model !== undefined
  const expected = [...devices].filter(([, device]) => told(device))
  const has = (id: string): string | undefined => mapper.devices.get(id)?.spec?.properties[0]?.desired?.value
  expect(expected.map(([id]) => [id, has(id)]), `seed ${seed}`)
    .toEqual(expected.map(([id, { twin }]) => [id, JSON.stringify(twin.desired.get('target')!.value)]))
  expect([...mapper.devices.keys()].filter(id => !devices.has(id)), `seed ${seed}: devices that are left behind`).toEqual([])
  const used = new Map(expected.flatMap(([, { device, model }]) => model === undefined ? [] : [[modelIdOf(device)!, model] as const]))
  for (const [id, model] of used) {
    expect(mapper.models.get(id)?.spec?.properties[0]?.maximum, `seed ${seed}: ${id}`)
      .toBe((model['spec'] as { properties: { maximum: string }[] }).properties[0]!.maximum)
  }
  // A device whose new model is not here stays as it is, and so does its old model, whichever that was.
  if (expected.length === devices.size) {
    expect([...mapper.models.keys()].filter(id => !used.has(id)), `seed ${seed}: models that are left behind`).toEqual([])
  }
  expect(mapper.wrong, `seed ${seed}`).toEqual([])
  queue!.close()
}

test('whatever happens to a mapper, in the end it holds what it should', { timeout: 60_000 }, async () => {
  for (let seed = firstSeed; seed < firstSeed + runs; seed++) await run(seed)
})
