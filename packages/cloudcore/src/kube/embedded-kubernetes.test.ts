import { createPublicKey } from 'node:crypto'
import { createServer } from 'node:net'
import { readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { once } from 'node:events'
import { HoldfastError, SystemClock, SystemRandom, silentLog } from '@holdfast/runtime'
import type { NodeName } from '@holdfast/runtime'
import { describe, expect, it, vi } from 'vitest'
import { Authority } from '../identity/index.ts'
import { p256, temporaryFolder } from '../identity/testing/identity-fixture.ts'
import { deviceDefinitions } from './device-kinds.ts'
import { EmbeddedKubernetes } from './embedded-kubernetes.ts'
import { kubeKinds } from './kube-kinds.ts'
import { RestClient } from './rest-client.ts'

interface Answer { readonly status: number, readonly body: Record<string, unknown> }

interface Client { readonly server: string, readonly caPem: string, readonly token?: string, readonly cert?: string, readonly key?: string }

async function open(dataDir: string, more: { readonly port?: number, readonly freeFloorBytes?: number } = {}):
Promise<{ readonly embedded: EmbeddedKubernetes, readonly authority: Authority }> {
  const clock = new SystemClock()
  const log = silentLog
  const authority = await Authority.open({ folder: join(dataDir, 'identity'), serverNames: [], hostname: 'cloud' }, { clock, log })
  const embedded = await EmbeddedKubernetes.open({
    dataDir, host: '127.0.0.1', port: 0, freeFloorBytes: 1024 * 1024, version: '1.2.3', platform: 'linux/arm64', ...more
  }, { authority, clock, random: new SystemRandom(), log })
  return { embedded, authority }
}

/** What kubectl would read from the file. */
async function fileClient(dataDir: string): Promise<Required<Pick<Client, 'server' | 'caPem' | 'token'>>> {
  const config = JSON.parse(await readFile(join(dataDir, 'kubeconfig'), 'utf8')) as {
    clusters: { cluster: { 'server': string, 'certificate-authority-data': string } }[], users: { user: { token: string } }[]
  }
  const { server, 'certificate-authority-data': ca } = config.clusters[0]!.cluster
  return { server, caPem: Buffer.from(ca, 'base64').toString(), token: config.users[0]!.user.token }
}

function call({ server, caPem, token, cert, key }: Client, method: string, path: string, body?: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${server}${path}`, {
      method, ca: caPem, cert, key, agent: false,
      headers: { 'content-type': 'application/json', ...token !== undefined && { authorization: `Bearer ${token}` } }
    }, answer => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => { text += part }).on('error', reject)
      answer.on('end', () => { resolve({ status: answer.statusCode!, body: JSON.parse(text) as Record<string, unknown> }) })
    })
    sent.on('error', reject)
    sent.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

const configMaps = '/api/v1/namespaces/default/configmaps'
const configMap = (name: string, data: object = {}): object => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data })

const devices = '/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices'
const definition = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/devices.devices.kubeedge.io'

describe('the embedded Kubernetes API', () => {
  it('has the same credentials and objects after a restart, in files for their owner alone', async () => {
    await using folder = await temporaryFolder()
    let first: Client
    {
      const { embedded } = await open(folder.path)
      await using _embedded = embedded
      first = await fileClient(folder.path)
      expect((await call(first, 'POST', configMaps, configMap('kept'))).status).toBe(201)
      expect((await stat(embedded.kubeconfigPath)).mode & 0o777).toBe(0o600)
      expect((await stat(join(folder.path, 'identity/kube-admin.token'))).mode & 0o777).toBe(0o600)
    }
    const { embedded } = await open(folder.path)
    await using _embedded = embedded
    const second = await fileClient(folder.path)
    expect(second.server).toBe(embedded.url)
    expect([second.caPem, second.token]).toEqual([first.caPem, first.token])
    expect((await call({ ...first, server: embedded.url }, 'GET', `${configMaps}/kept`)).status).toBe(200)
    expect((await call(second, 'GET', '/version')).body).toMatchObject({ gitVersion: 'v1.32.0+holdfast.1.2.3', platform: 'linux/arm64' })
  })

  it('lets its own controllers and the administrator in, and nobody with a node\'s certificate or without a token', async () => {
    await using folder = await temporaryFolder()
    const { embedded, authority } = await open(folder.path)
    await using _embedded = embedded
    await using own = await RestClient.open({ access: embedded.access }, { clock: new SystemClock(), random: new SystemRandom() })
    expect(await own.get({ kind: kubeKinds.namespaces, name: 'default' })).toBeDefined()
    const access = await fileClient(folder.path)
    expect((await call(access, 'GET', configMaps)).status).toBe(200)
    const { server, caPem } = access
    expect((await call({ server, caPem }, 'GET', configMaps)).status).toBe(403)
    expect((await call({ ...access, token: `${access.token}x` }, 'GET', configMaps)).status).toBe(401)
    const key = p256()
    const { pem: cert } = await authority.issueNodeCertificate('edge-1' as NodeName, createPublicKey(key))
    const refused = await call({ server, caPem, cert, key: key.export({ type: 'pkcs8', format: 'pem' }) as string }, 'GET', configMaps)
    expect(refused).toMatchObject({ status: 403, body: { message: expect.stringContaining('system:anonymous') as string } })
  })

  it('sets a database aside that cannot be read, takes over what can be, and goes on', async () => {
    await using folder = await temporaryFolder()
    {
      const { embedded } = await open(folder.path)
      await using _embedded = embedded
      await call(await fileClient(folder.path), 'POST', configMaps, configMap('kept'))
    }
    await writeFile(join(folder.path, 'objects/CURRENT'), 'nonsense')
    const { embedded } = await open(folder.path)
    await using _embedded = embedded
    expect(embedded.database.quarantines).toBe(1)
    expect(await readdir(join(folder.path, 'quarantine'))).toHaveLength(1)
    const { status, body } = await call(await fileClient(folder.path), 'GET', `${configMaps}/kept`)
    expect(status).toBe(200)
    expect(body).toMatchObject({ metadata: { name: 'kept' } })
    // Newer ones may have been lost: no version ever means two things.
    const { body: list } = await call(await fileClient(folder.path), 'GET', configMaps)
    expect(Number((list['metadata'] as { resourceVersion: string }).resourceVersion)).toBeGreaterThan(1_000_000_000)
  })

  it('answers a failed write, opens its database again and goes on', async () => {
    await using folder = await temporaryFolder()
    const { embedded } = await open(folder.path)
    await using _embedded = embedded
    vi.spyOn(embedded.database.store, 'write').mockImplementationOnce((_ops, _options, onDone) => {
      onDone(new HoldfastError('STORE_FAILED', 'the disk says no'))
    })
    expect((await call(await fileClient(folder.path), 'POST', configMaps, configMap('lost'))).status).toBe(500)
    await vi.waitFor(() => { expect([embedded.database.reopens, embedded.failure]).toEqual([1, undefined]) }, 10_000)
    expect((await call(await fileClient(folder.path), 'POST', configMaps, configMap('after'))).status).toBe(201)
    expect((await call(await fileClient(folder.path), 'GET', `${configMaps}/lost`)).status).toBe(404)
  })

  it('takes nothing that grows while the disk is nearly full, and lets go of what is there', async () => {
    await using folder = await temporaryFolder()
    {
      const { embedded } = await open(folder.path)
      await using _embedded = embedded
      await call(await fileClient(folder.path), 'POST', configMaps, configMap('large', { text: 'x'.repeat(1000) }))
    }
    const { embedded } = await open(folder.path, { freeFloorBytes: 2 ** 40 })
    await using _embedded = embedded
    const refused = await call(await fileClient(folder.path), 'POST', configMaps, configMap('more'))
    expect(refused).toMatchObject({ status: 507, body: { message: expect.stringContaining('kube.freeFloorBytes') as string } })
    expect((await call(await fileClient(folder.path), 'PUT', `${configMaps}/large`, configMap('large'))).status).toBe(200)
    expect((await call(await fileClient(folder.path), 'DELETE', `${configMaps}/large`)).status).toBe(200)
  })

  it('has the kinds of devices from its first start, and brings those of an older release up to date, with the devices', async () => {
    await using folder = await temporaryFolder()
    const device = { apiVersion: 'devices.kubeedge.io/v1beta1', kind: 'Device', metadata: { name: 'hall' }, spec: { nodeName: 'edge-1' } }
    {
      const { embedded } = await open(folder.path)
      await using _embedded = embedded
      expect((await call(await fileClient(folder.path), 'POST', devices, device)).status).toBe(201)
      const { body } = await call(await fileClient(folder.path), 'GET', definition)
      const older = body as { metadata: { annotations: object }, spec: { versions: { additionalPrinterColumns: object[] }[] } }
      older.metadata.annotations = {}
      older.spec.versions[0]!.additionalPrinterColumns = []
      expect((await call(await fileClient(folder.path), 'PUT', definition, older)).status).toBe(200)
    }
    const { embedded } = await open(folder.path)
    await using _embedded = embedded
    expect((await call(await fileClient(folder.path), 'GET', definition)).body).toMatchObject({ spec: deviceDefinitions[1]!['spec'] })
    expect((await call(await fileClient(folder.path), 'GET', `${devices}/hall`)).body).toMatchObject({ spec: { nodeName: 'edge-1' } })
  })

  it('starts where the kinds of devices cannot be installed, and serves everything else', async () => {
    await using folder = await temporaryFolder()
    const { embedded } = await open(folder.path, { freeFloorBytes: 2 ** 40 })
    await using _embedded = embedded
    expect((await call(await fileClient(folder.path), 'GET', configMaps)).status).toBe(200)
    expect((await call(await fileClient(folder.path), 'GET', definition)).status).toBe(404)
  })

  it('says which setting to change where its port is taken, and leaves its database closed', async () => {
    await using folder = await temporaryFolder()
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as { port: number }
    await expect(open(folder.path, { port })).rejects.toMatchObject({
      code: 'LISTEN_FAILED', message: `kube: cannot listen on 127.0.0.1:${port}: another process listens there: stop it, or set `
        + 'kube.port to another port (0: any free one)'
    })
    await new Promise(resolve => other.close(resolve))
    await using _embedded = (await open(folder.path)).embedded
  })

  it('makes a new token where the old one was taken away', async () => {
    await using folder = await temporaryFolder()
    await (await open(folder.path)).embedded.close()
    const before = await fileClient(folder.path)
    await rm(join(folder.path, 'identity/kube-admin.token'))
    const { embedded } = await open(folder.path)
    await using _embedded = embedded
    expect((await call({ ...before, server: embedded.url }, 'GET', configMaps)).status).toBe(401)
    expect((await call(await fileClient(folder.path), 'GET', configMaps)).status).toBe(200)
  })
})
