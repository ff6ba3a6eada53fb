import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SystemClock, SystemRandom, parseNodeName } from '@holdfast/runtime'
import type { KubeObject } from '@holdfast/kube-api'
import { describe, expect, it, vi } from 'vitest'
import { Authority } from '../identity/index.ts'
import { KeptLog, temporaryFolder } from '../identity/testing/identity-fixture.ts'
import { HandLinks } from '../state/testing/up-node-links.ts'
import { RestClient } from './rest-client.ts'
import { Controllers } from './controllers.ts'
import { installDeviceKinds } from './device-kinds-install.ts'
import { deviceDefinitions } from './device-kinds.ts'
import { EmbeddedKubernetes } from './embedded-kubernetes.ts'
import type { KubeAccess } from './kube-access.ts'
import { kubeKinds } from './kube-kinds.ts'
import type { KnownApiOptions } from './known-api.ts'

const edge = parseNodeName('edge-1')!

/** Controllers over an embedded API, running. Disposal stops them as cloudcore does. */
class Harness implements AsyncDisposable {
  readonly log = new KeptLog()
  readonly links = new HandLinks()
  readonly controllers: Controllers
  readonly client: RestClient
  ended = false
  readonly #stop = new AbortController()
  readonly #run: Promise<void>

  private constructor(access: KubeAccess, client: RestClient, knownApi: KnownApiOptions) {
    const [clock, random] = [new SystemClock(), new SystemRandom()]
    this.client = client
    this.controllers = new Controllers({ access, knownApi, keepPods: false, api: 'embedded' }, { links: this.links, clock, random, log: this.log })
    this.#run = this.controllers.run(this.#stop.signal).then(() => { this.ended = true })
  }

  static async start(embedded: EmbeddedKubernetes, adopt?: string, access: KubeAccess = embedded.access): Promise<Harness> {
    const client = await RestClient.open({ access }, { clock: new SystemClock(), random: new SystemRandom() })
    return new Harness(access, client, { path: join(embedded.kubeconfigPath, '../identity/kube-api'), adopt })
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stop'))
    await this.#run
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await this.client.close()
  }
}

async function openEmbedded(dataDir: string): Promise<EmbeddedKubernetes> {
  const [clock, random, log] = [new SystemClock(), new SystemRandom(), new KeptLog()]
  const authority = await Authority.open({ folder: join(dataDir, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log })
  return await EmbeddedKubernetes.open({
    dataDir, host: '127.0.0.1', port: 0, freeFloorBytes: 1024 * 1024, version: '1.2.3', platform: 'linux/arm64'
  }, { authority, clock, random, log })
}

const configMap: KubeObject = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a', namespace: 'default' }, data: {} }

const soon = (check: () => void): Promise<void> => vi.waitFor(check, 10_000)

describe('what has to do with Kubernetes', () => {
  it('comes in sync, names the API, and registers a node that connects', async () => {
    await using folder = await temporaryFolder()
    await using embedded = await openEmbedded(folder.path)
    await using harness = await Harness.start(embedded)
    expect(harness.controllers.status).toMatch(/^waits for serviceaccounts/)
    expect(harness.controllers.stateOf(edge)!.down.ready('nodes', '')).toBe(false)
    await soon(() => { expect(harness.controllers.status).toBe('in sync') })
    const { down, up } = harness.controllers.stateOf(edge)!
    expect(down.ready('nodes', '')).toBe(true)
    expect(up.collections).toEqual(['pod-status', 'node-status', 'twins'])
    harness.links.connect('edge-1')
    await soon(() => { expect([...down.keysFrom('nodes', '')].map(([key]) => key)).toEqual(['edge-1']) })
    expect((await harness.client.get({ kind: kubeKinds.nodes, name: 'edge-1' }))?.metadata.name).toBe('edge-1')
  })

  it('gives an API that is not the one before no say until it is adopted', async () => {
    await using folder = await temporaryFolder()
    {
      await using embedded = await openEmbedded(folder.path)
      await using harness = await Harness.start(embedded)
      await soon(() => { expect(harness.controllers.status).toBe('in sync') })
    }
    await rm(join(folder.path, 'objects'), { recursive: true })
    await using embedded = await openEmbedded(folder.path)
    let uid: string
    {
      await using harness = await Harness.start(embedded)
      await soon(() => { expect(harness.controllers.status).toMatch(/^waits for the API to be known .*--set kube\.adopt=/) })
      expect(harness.controllers.stateOf(edge)!.down.ready('nodes', '')).toBe(false)
      expect(harness.controllers.inSync).toBe(false)
      uid = /kube\.adopt=([^)]+)/.exec(harness.controllers.status)![1]!
    }
    await using harness = await Harness.start(embedded, uid)
    await soon(() => { expect(harness.controllers.status).toBe('in sync') })
    expect(harness.controllers.stateOf(edge)!.down.ready('nodes', '')).toBe(true)
  })

  it('ends with nothing asked any more, whatever was under way', async () => {
    await using folder = await temporaryFolder()
    await using embedded = await openEmbedded(folder.path)
    const harness = await Harness.start(embedded)
    await soon(() => { expect(embedded.api.objects.stats.watches).toBe(9) })
    await harness[Symbol.asyncDispose]()
    await soon(() => { expect(embedded.api.objects.stats.watches).toBe(0) })
    expect(harness.log.lines.filter(line => line.startsWith('error'))).toEqual([])
  })

  it('that fails stops by itself and leaves the rest of cloudcore alone', async () => {
    await using folder = await temporaryFolder()
    await using embedded = await openEmbedded(folder.path)
    await using harness = await Harness.start(embedded)
    const { controllers } = harness
    await soon(() => { expect(controllers.status).toBe('in sync') })
    controllers.informers.configmaps.subscribe({ onChange: () => { throw new Error('of a listener') } })
    await harness.client.create(kubeKinds.configMaps, configMap)
    await soon(() => { expect(controllers.status).toContain('stopped by a fault, restart cloudcore: of a listener') })
    expect([controllers.stateOf(edge), controllers.inSync]).toEqual([undefined, false])
    await soon(() => { expect(embedded.api.objects.stats.watches).toBe(0) })
    expect(harness.ended).toBe(false)
    expect(harness.log.lines).toContain('error what has to do with Kubernetes is stopped by a fault; nodes keep what they have')
  })

  it('goes on without the kinds of devices, says how to install them, and takes them up when they are there', async () => {
    await using folder = await temporaryFolder()
    await using embedded = await openEmbedded(folder.path)
    const client = await RestClient.open({ access: embedded.access }, { clock: new SystemClock(), random: new SystemRandom() })
    await using _client = client
    for (const { metadata: { name = '' } } of deviceDefinitions) await client.delete({ kind: kubeKinds.customResourceDefinitions, name })
    await embedded.api.idle()
    await using harness = await Harness.start(embedded)
    await soon(() => {
      expect(harness.controllers.status).toBe('in sync; but for devicemodels.devices.kubeedge.io, devices.devices.kubeedge.io, '
        + 'devicestatuses.devices.kubeedge.io, which the API does not know: kubectl apply -k deploy/crds')
    })
    expect(harness.controllers.inSync).toBe(false)
    const { down } = harness.controllers.stateOf(edge)!
    expect(down.collections.filter(name => !down.ready(name, ''))).toEqual(['devicemodels', 'devices'])
    await installDeviceKinds(client)
    await soon(() => { expect(harness.controllers.status).toBe('in sync') })
    expect(down.collections.filter(name => !down.ready(name, ''))).toEqual([])
  })

  it('says what is wrong where there is no API', async () => {
    await using folder = await temporaryFolder()
    const embedded = await openEmbedded(folder.path)
    await using harness = await Harness.start(embedded, undefined, { kind: 'file', path: embedded.kubeconfigPath })
    await embedded.close()
    await soon(() => { expect(harness.controllers.status).toMatch(/^waits for .*(ECONNREFUSED|ECONNRESET|other side closed)/) })
  })
})
