import { once } from 'node:events'
import { readFile, rename } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { Fleet, until } from '../harness/daemons.ts'
import { DevicesApi, conditionOf, desiredOf, reportedOf } from '../harness/device-api.ts'
import type { Daemon } from '../harness/daemons.ts'
import { KubeCluster } from '../harness/kube-cluster.ts'
import type { PolicyRule } from '../harness/kube-cluster.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { check, metric, missing } from './programs.ts'

const root = join(import.meta.dirname, '../..')
const manifests = join(root, 'deploy/kubernetes')

interface Role { readonly kind: string, readonly metadata: { readonly namespace?: string }, readonly rules: readonly PolicyRule[] }

/** What deploy/kubernetes gives to cloudcore's account. */
async function grantedRules(): Promise<PolicyRule[]> {
  const documents = parseAllDocuments(await readFile(join(manifests, 'rbac.yaml'), 'utf8')).map(document => document.toJS() as Role)
  return documents.filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole').flatMap(({ metadata: { namespace }, rules }) =>
    rules.map(rule => ({ ...rule, ...namespace !== undefined && { namespace } })))
}

/** cloudcore in somebody's cluster, and a node that is started by the test. */
async function fleetOf(kubeconfig: string): Promise<{ readonly fleet: Fleet, readonly edge: Daemon }> {
  const fleet = await Fleet.start({ cloud: { set: ['kube.mode=cluster', `kube.kubeconfig=${kubeconfig}`] } })
  onTestFinished(async () => { await fleet[Symbol.asyncDispose]() })
  return { fleet, edge: await fleet.join('edge-1', { set: ['link.retryMax=500ms'] }) }
}

const linked = (edge: Daemon): Promise<unknown> => until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1)

const objectsOf = (edge: Daemon, collection: string): Promise<number> => metric(edge, `holdfast_edge_objects{collection="${collection}"}`)

async function kubernetesOf(fleet: Fleet): Promise<string> {
  const text = await (await fetch(`${fleet.cloud.endpoints.ops}/readyz?verbose`)).text()
  return /^\[i\]kubernetes (.*)$/m.exec(text)![1]!
}

const pods = '/api/v1/namespaces/default/pods'
const configMaps = '/api/v1/namespaces/default/configmaps'
const pod = {
  apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web' }, spec: {
    nodeName: 'edge-1', containers: [{ name: 'main', image: 'registry.example/web:1.0', envFrom: [{ configMapRef: { name: 'settings' } }] }]
  }
}
const settings = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { colour: 'blue' } }

/** What a cluster's admission gives to a Pod that says nothing of it. */
const defaultTolerations = ['not-ready', 'unreachable'].map(what =>
  ({ key: `node.kubernetes.io/${what}`, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 }))

interface PodAnswer {
  readonly spec: { readonly tolerations: readonly { readonly tolerationSeconds?: number }[] }
  readonly status: { readonly reason?: string }
}
interface NodeAnswer { readonly status: { readonly conditions: readonly { readonly type: string, readonly status: string }[] } }

/** From an empty cluster to a Pod on the node, its status back, and the Pod gone again. */
async function servesNode(cluster: KubeHttp, edge: Daemon): Promise<void> {
  await until('the node is registered and ready', async () => {
    const { status, body } = await cluster.send<NodeAnswer>('GET', '/api/v1/nodes/edge-1')
    return status === 200 && body.status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True')
  })
  await cluster.check('POST', configMaps, settings)
  await cluster.check('POST', pods, { ...pod, spec: { ...pod.spec, tolerations: defaultTolerations } })
  await until('nothing evicts the pod while its node is away', async () =>
    (await cluster.check<PodAnswer>('GET', `${pods}/web`)).spec.tolerations.every(({ tolerationSeconds }) => tolerationSeconds === undefined))
  await until('the pod and what it names are on the node', async () =>
    await objectsOf(edge, 'pods') === 1 && await objectsOf(edge, 'configmaps') === 1)
  await until('its status is in the cluster', async () =>
    (await cluster.check<PodAnswer>('GET', `${pods}/web`)).status.reason === 'NoContainerRuntime')
  await cluster.check('DELETE', `${pods}/web`)
  await until('the pod is gone', async () => (await cluster.send('GET', `${pods}/web`)).status === 404)
  await until('it is gone from the node', async () => await objectsOf(edge, 'pods') === 0 && await objectsOf(edge, 'configmaps') === 0)
}

/** From a Device to a value that the node sets and one that the device reports; without a word where it moves and goes. */
async function servesDevice(devices: DevicesApi, edge: Daemon): Promise<void> {
  await devices.createModel('thermostat', [{ name: 'temperature', type: 'FLOAT', accessMode: 'ReadOnly' }, { name: 'setpoint', type: 'INT' }])
  await devices.createDevice('hall', 'edge-1', 'thermostat', { properties: [{ name: 'setpoint', desired: { value: '20' } }] })
  await until('the device is on the node', async () => await objectsOf(edge, 'devices') === 1 && await objectsOf(edge, 'devicemodels') === 1)
  const device = `${edge.endpoints.http}/v1/devices/default/hall`
  const send = async (method: string, path: string, body: object): Promise<number> =>
    (await fetch(`${device}${path}`, { method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).status
  await until('the node knows it', async () => (await fetch(device)).status === 200)
  expect(await send('PATCH', '/twin', { temperature: 19.5 })).toBe(200)
  expect(await send('PATCH', '/twin?section=desired', { setpoint: 22 })).toBe(200)
  for (const state of ['online', 'offline', 'online', 'offline']) {
    expect(await send('PUT', '/state', { state })).toBe(200)
    await until(`it is ${state}`, async () => (await devices.status('hall'))?.status?.state === state)
  }
  await until('all of it is in the cluster', async () => {
    const status = await devices.status('hall')
    return reportedOf(status)['temperature'] === '19.5' && desiredOf(await devices.device('hall'))['setpoint'] === '22'
  })
  await until('its conditions are there', async () => {
    const found = await devices.device('hall')
    return conditionOf(found, 'Synced') === 'True' && conditionOf(found, 'Reachable') === 'False' && conditionOf(found, 'InDesiredState') === 'False'
  })
  await until('events say so', async () => (await devices.api.check<{ items: { involvedObject: { name: string }, count: number }[] }>('GET',
    '/api/v1/namespaces/default/events')).items.some(({ involvedObject, count }) => involvedObject.name === 'hall' && count > 1))
  await devices.delete('devices', 'hall')
  await until('it is gone from the node, and its status from the cluster', async () =>
    await objectsOf(edge, 'devices') === 0 && await devices.status('hall') === undefined)
}

it('cloudcore in a cluster needs the rights that deploy/kubernetes gives it, and no others', async () => {
  await using cluster = await KubeCluster.start()
  cluster.rules = await grantedRules()
  const { fleet, edge } = await fleetOf(cluster.kubeconfig)
  expect(fleet.cloud.endpoints.kubernetes).toBeUndefined()
  await edge.start()
  using http = await KubeHttp.open(cluster.adminKubeconfig)
  await servesNode(http, edge)
  await until('it is said what is missing', async () => (await kubernetesOf(fleet)).endsWith(', which the API does not know: kubectl apply -k deploy/crds'))
  const devices = new DevicesApi(http)
  await devices.installDefinitions()
  await until('cloudcore is in sync', async () => await kubernetesOf(fleet) === 'in sync', 60_000)
  await servesDevice(devices, edge)
  await edge.stop()
  expect([...cluster.refused]).toEqual([])
  expect(await kubernetesOf(fleet)).toBe('in sync')
  // Nothing is given that has no use: reading one by one is for where a watch lags, PUT is PATCH's equal, the status of an older
  // device of the name is deleted where the garbage collector has not yet, and definitions with a status subresource are others'.
  const granted = cluster.rules.flatMap(({ verbs, resources }) => verbs.flatMap(verb => resources.map(resource => `${verb} ${resource}`)))
  const unused = granted.filter(right => !cluster.used.has(right) && !/^(get|update) |^delete devicestatuses$|device(s|statuses)\/status$/.test(right))
  expect(unused).toEqual([])
})

it('the manifests are what kubectl takes', async ({ skip }) => {
  const reason = missing('kubectl')
  skip(reason !== undefined, reason)
  const rendered = parseAllDocuments(await check('kubectl', ['kustomize', manifests])).map(document => document.toJS() as Role)
  expect(rendered.map(({ kind, metadata: { namespace = '' } }) => `${kind} ${namespace}`.trim())).toEqual([
    'Namespace', 'CustomResourceDefinition', 'CustomResourceDefinition', 'CustomResourceDefinition',
    'ServiceAccount holdfast-system', 'Role kube-node-lease', 'ClusterRole', 'RoleBinding kube-node-lease', 'ClusterRoleBinding',
    'ConfigMap holdfast-system', 'Service holdfast-system', 'PersistentVolumeClaim holdfast-system', 'Deployment holdfast-system'
  ])
})

describe('an API that is of no use', () => {
  /** Ready in time, records taken in and stored by the cloud, the node's objects kept, ended in time. */
  async function worksWithoutApi(fleet: Fleet, edge: Daemon): Promise<void> {
    await edge.start()
    await linked(edge)
    const answer = await fetch(`${edge.endpoints.http}/v1/devices/home/kettle/telemetry`, { method: 'POST', body: '{"celsius":81}' })
    expect(answer.status).toBe(200)
    await until('the record is in the cloud', async () => await metric(fleet.cloud, 'holdfast_cloud_appended_records_total') > 0)
    expect((await fetch(`${fleet.cloud.endpoints.ops}/readyz`)).status).toBe(200)
  }

  async function stopsInTime(fleet: Fleet): Promise<void> {
    const startedMs = performance.now()
    expect(await fleet.cloud.stop()).toBe(0)
    expect(performance.now() - startedMs).toBeLessThan(5000)
  }

  it('because it is down holds up nothing, takes nothing away, and is used when it is up', async () => {
    await using cluster = await KubeCluster.start()
    using http = await KubeHttp.open(cluster.adminKubeconfig)
    await new DevicesApi(http).installDefinitions()
    await cluster.down()
    const { fleet, edge } = await fleetOf(cluster.kubeconfig)
    await worksWithoutApi(fleet, edge)
    await until('it is said why', async () => /waits for .*ECONNREFUSED/.test(await kubernetesOf(fleet)))
    await cluster.up()
    await http.check('POST', configMaps, settings)
    await http.check('POST', pods, pod)
    await until('the pod is on the node', async () => await objectsOf(edge, 'pods') === 1, 60_000)

    await cluster.down()
    await fleet.cloud.kill()
    await fleet.cloud.start()
    await linked(edge)
    expect(await objectsOf(edge, 'pods')).toBe(1)
    await stopsInTime(fleet)
    await fleet.cloud.start()
    await linked(edge)
    expect(await objectsOf(edge, 'pods')).toBe(1)
    await cluster.up()
    await http.check('PATCH', `${configMaps}/settings`, { data: { colour: 'green' } })
    await until('cloudcore is in sync', async () => await kubernetesOf(fleet) === 'in sync', 60_000)
    expect(await objectsOf(edge, 'pods')).toBe(1)
    await stopsInTime(fleet)
  })

  it('because it refuses everything is told, and holds up nothing', async () => {
    await using cluster = await KubeCluster.start()
    cluster.rules = []
    const { fleet, edge } = await fleetOf(cluster.kubeconfig)
    await worksWithoutApi(fleet, edge)
    await until('it is said why', async () => /waits for .*forbidden/.test(await kubernetesOf(fleet)))
    await stopsInTime(fleet)
  })

  it('because it never answers holds up nothing', async () => {
    const sockets = new Set<Socket>()
    const silent = createServer(socket => { sockets.add(socket.on('error', () => {})) }).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    await using cluster = await KubeCluster.start()
    const { port } = silent.address() as { port: number }
    const text = (await readFile(cluster.kubeconfig, 'utf8')).replace(cluster.url, `https://127.0.0.1:${port}`)
    const { fleet, edge } = await fleetOf(await cluster.keep('silent.kubeconfig', text))
    await worksWithoutApi(fleet, edge)
    await until('it was asked', () => sockets.size > 0)
    expect(await kubernetesOf(fleet)).toMatch(/^waits for /)
    await stopsInTime(fleet)
  })

  it('because there is no kubeconfig is used when it is there', async () => {
    await using cluster = await KubeCluster.start()
    using http = await KubeHttp.open(cluster.adminKubeconfig)
    await new DevicesApi(http).installDefinitions()
    const later = join(cluster.folder, 'later.kubeconfig')
    const { fleet, edge } = await fleetOf(later)
    await worksWithoutApi(fleet, edge)
    await until('it is said why', async () => (await kubernetesOf(fleet)).includes('later.kubeconfig'))
    await rename(cluster.kubeconfig, later)
    await until('cloudcore is in sync', async () => await kubernetesOf(fleet) === 'in sync', 60_000)
    await stopsInTime(fleet)
  })
})
