import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { EmbeddedKubeApi } from '../../packages/kube-api/src/embedded-kube-api.ts'
import { writeKubeconfig } from '../../packages/kube-api/src/server/kubeconfig.ts'
import { SystemClock, SystemRandom, silentLog } from '../../packages/runtime/src/index.ts'
import { Committer, LevelStore } from '../../packages/store/src/index.ts'
import { until } from '../harness/daemons.ts'
import { kubectlPrograms } from './kubectl-program.ts'
import { check, run } from './programs.ts'

const manifest = `
apiVersion: v1
kind: Secret
metadata: {name: web-key}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: edge-1
  containers:
  - name: main
    image: registry.example/web:1.0
    envFrom: [{configMapRef: {name: settings}}]
    volumeMounts: [{name: key, mountPath: /key}]
  volumes: [{name: key, secret: {secretName: web-key}}]
`

const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'edge-1', labels: { 'node-role.kubernetes.io/edge': '' } },
  status: {
    conditions: [{ type: 'Ready', status: 'True', reason: 'Linked', message: 'the node has a session' }],
    addresses: [{ type: 'InternalIP', address: '192.0.2.7' }],
    nodeInfo: { kubeletVersion: 'v1.32.0-holdfast', osImage: 'Debian', kernelVersion: '6.1', containerRuntimeVersion: 'none' }
  }
}

/** A kind of the operator's own. */
const gadgets = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.demo.example.com}
spec:
  group: demo.example.com
  scope: Namespaced
  names: {plural: gadgets, singular: gadget, kind: Gadget, shortNames: [gg], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Model, type: string, jsonPath: .spec.model}
    - {name: Level, type: integer, jsonPath: .spec.level}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [model]
            properties:
              model: {type: string, pattern: '^[a-z0-9-]+$', description: Which model it is.}
              level: {type: integer, minimum: 0, maximum: 10, default: 3}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

const gadget = (spec: string): string =>
  `{"apiVersion":"demo.example.com/v1","kind":"Gadget","metadata":{"name":"one"},"spec":${spec}}`

let folder: string
let store: LevelStore
let committer: Committer
let api: EmbeddedKubeApi

beforeAll(async () => {
  if (kubectlPrograms.every(({ absent }) => absent !== undefined)) return
  folder = await mkdtemp(join(tmpdir(), 'holdfast-kubectl-'))
  const [certificate, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  await check('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-subj', '/CN=kube-api', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate])
  await makeClientCertificate()
  const clock = new SystemClock()
  store = await LevelStore.open({ path: join(folder, 'db') })
  committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  const [certificatePem, keyPem] = await Promise.all([certificate, key].map(path => readFile(path, 'utf8')))
  api = await EmbeddedKubeApi.open({
    server: {
      name: 'kube-api', host: '127.0.0.1', port: 0,
      tls: { certificatePem: certificatePem!, keyPem: keyPem!, clientCaPem: await readFile(join(folder, 'client-ca.pem'), 'utf8') },
      tokens: [{ token: 'a-token-of-this-test', user: { name: 'admin', groups: ['system:masters'] } }],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0-holdfast', gitCommit: '', buildDate: '2026-01-01T00:00:00Z', platform: '' }
    },
    objects: {}
  }, { store, committer, clock, random: new SystemRandom(), log: silentLog })
  await writeKubeconfig(kubeconfigPath(), {
    name: 'holdfast', server: api.server.url, caPem: certificatePem!, token: 'a-token-of-this-test'
  })
})

afterAll(async () => {
  if (folder === undefined) return
  await api.close()
  await committer.close()
  await store.close()
  await rm(folder, { recursive: true })
})

/** For user `operator`, signed by a CA of its own. */
async function makeClientCertificate(): Promise<void> {
  const at = (name: string): string => join(folder, name)
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await check('openssl', ['req', '-x509', ...curve, '-days', '2', '-subj', '/CN=clients', '-keyout', at('ca-key.pem'), '-out', at('client-ca.pem')])
  await check('openssl', ['req', ...curve, '-subj', '/O=operators/CN=operator', '-keyout', at('client-key.pem'), '-out', at('client.csr')])
  await check('openssl', ['x509', '-req', '-in', at('client.csr'), '-CA', at('client-ca.pem'), '-CAkey', at('ca-key.pem'),
    '-CAcreateserial', '-days', '2', '-out', at('client.pem')])
}

const kubeconfigPath = (): string => join(folder, 'kubeconfig')

describe.each(kubectlPrograms)('$name', ({ path, absent }) => {
  const kubectl = (args: readonly string[], input = ''): Promise<string> =>
    check(path, ['--kubeconfig', kubeconfigPath(), ...args], { input })
  const refused = async (args: readonly string[], input = ''): Promise<string> => {
    const { code, stderr } = await run(path, ['--kubeconfig', kubeconfigPath(), ...args], { input })
    expect(code).not.toBe(0)
    return stderr
  }

  beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

  it('shows a node as wide as it gets', async () => {
    await kubectl(['create', '-f', '-'], JSON.stringify(node))
    onTestFinished(async () => { await kubectl(['delete', 'node', 'edge-1']) })
    const { url } = api.server
    await patchNodeStatus(url)
    const [head = '', row = ''] = (await kubectl(['get', 'nodes', '-o', 'wide'])).split('\n')
    expect(head.split(/ {2,}/)).toEqual(['NAME', 'STATUS', 'ROLES', 'AGE', 'VERSION', 'INTERNAL-IP', 'EXTERNAL-IP', 'OS-IMAGE',
      'KERNEL-VERSION', 'CONTAINER-RUNTIME'])
    expect(row.split(/ {2,}/)).toEqual(['edge-1', 'Ready', 'edge', expect.stringMatching(/^\d+s$/) as string, 'v1.32.0-holdfast',
      '192.0.2.7', '<none>', 'Debian', '6.1', 'none'])
  })

  it('creates a ConfigMap, applies a Pod with it, and patches three kinds', async () => {
    expect(await kubectl(['create', 'configmap', 'settings', '--from-literal=a=1'])).toBe('configmap/settings created\n')
    expect(await kubectl(['apply', '-f', '-'], manifest)).toBe('secret/web-key created\npod/web created\n')
    onTestFinished(async () => { await kubectl(['delete', 'configmap,secret', 'settings', 'web-key', '--ignore-not-found']) })
    // stringData is folded into data, so the Secret differs from what was applied for ever: as on a real server.
    expect(await kubectl(['apply', '-f', '-'], manifest)).toMatch(/^secret\/web-key (configured|unchanged)\npod\/web unchanged\n$/)

    expect(await kubectl(['patch', 'configmap', 'settings', '-p', '{"data":{"b":"2"}}'])).toBe('configmap/settings patched\n')
    expect(await kubectl(['patch', 'secret', 'web-key', '--type=json', '-p', '[{"op":"add","path":"/data/b","value":"Mg=="}]']))
      .toBe('secret/web-key patched\n')
    expect(await kubectl(['patch', 'pod', 'web', '--type=merge', '-p', '{"metadata":{"labels":{"tier":"front"}}}']))
      .toBe('pod/web patched\n')
    expect(JSON.parse(await kubectl(['get', 'configmap', 'settings', '-o', 'json']))).toMatchObject({ data: { a: '1', b: '2' } })
    expect(JSON.parse(await kubectl(['get', 'secret', 'web-key', '-o', 'json'])))
      .toMatchObject({ data: { password: Buffer.from('hunter2').toString('base64'), b: 'Mg==' } })

    const pods = await kubectl(['get', 'pods', '-o', 'yaml'])
    for (const line of ['kind: List', 'nodeName: edge-1', 'tier: front', 'phase: Pending', 'restartPolicy: Always']) {
      expect(pods).toContain(line)
    }
    const [, row = ''] = (await kubectl(['get', 'pods', '-o', 'wide'])).split('\n')
    expect(row.split(/ {2,}/).slice(0, 4)).toEqual(['web', '0/1', 'Pending', '0'])
    expect(await kubectl(['delete', 'pod', 'web', '--force', '--grace-period=0'])).toContain('pod "web" force deleted')
    expect(await refused(['get', 'pod', 'web'])).toBe('Error from server (NotFound): pods "web" not found\n')
  })

  it('watches, deletes and waits', async () => {
    const watch = spawn(path, ['--kubeconfig', kubeconfigPath(), 'get', 'configmaps', '-w', '--no-headers'])
    onTestFinished(() => { watch.kill('SIGKILL') })
    let seen = ''
    watch.stdout.setEncoding('utf8').on('data', (text: string) => { seen += text })
    await kubectl(['create', 'configmap', 'first', '--from-literal=a=1'])
    await until('the watch shows the first ConfigMap', () => seen.includes('first'))
    await kubectl(['create', 'configmap', 'second', '--from-literal=a=1', '--from-literal=b=2'])
    await until('the watch shows the second ConfigMap', () => /second +2/.test(seen))

    await kubectl(['create', 'namespace', 'passing'])
    await kubectl(['create', 'configmap', 'inside', '-n', 'passing'])
    const gone = kubectl(['wait', '--for=delete', 'namespace/passing', 'configmap/second', '--timeout=20s'])
    await kubectl(['delete', 'configmap', 'first', 'second'])
    await kubectl(['delete', 'namespace', 'passing'])
    // Of what is gone before it is asked for, 1.20 says that there is nothing to wait for.
    await gone.catch((error: unknown) => { expect(String(error)).toMatch(/NotFound|no matching resources/) })
    expect(await refused(['get', 'namespace', 'passing'])).toContain('NotFound')
  })

  it('defines a kind, and works with its objects as with any other', async () => {
    expect(await kubectl(['create', '-f', '-'], gadgets)).toBe('customresourcedefinition.apiextensions.k8s.io/gadgets.demo.example.com created\n')
    onTestFinished(async () => { await kubectl(['delete', 'crd', 'gadgets.demo.example.com', '--ignore-not-found']) })
    expect(await kubectl(['wait', '--for=condition=Established', 'crd/gadgets.demo.example.com', '--timeout=20s']))
      .toBe('customresourcedefinition.apiextensions.k8s.io/gadgets.demo.example.com condition met\n')
    expect(await kubectl(['get', 'crds'])).toMatch(/^NAME +CREATED AT\ngadgets\.demo\.example\.com +20\d\d-/)
    expect(await kubectl(['api-resources', '--api-group=demo.example.com'])).toMatch(/gadgets +gg +demo\.example\.com(\/v1)? +true +Gadget/)

    expect(await refused(['create', '-f', '-'], gadget('{"model":"Not OK","level":11}'))).toMatch(/The Gadget "one" is invalid:[^]*spec\.level[^]*should be less than/)
    expect(await kubectl(['apply', '-f', '-'], gadget('{"model":"m-1"}'))).toBe('gadget.demo.example.com/one created\n')
    expect(await kubectl(['apply', '-f', '-'], gadget('{"model":"m-1"}'))).toBe('gadget.demo.example.com/one unchanged\n')
    expect(await kubectl(['patch', 'gg', 'one', '--type=merge', '-p', '{"spec":{"level":7}}'])).toBe('gadget.demo.example.com/one patched\n')
    const [head = '', row = ''] = (await kubectl(['get', 'gadgets'])).split('\n')
    expect(head.split(/ {2,}/)).toEqual(['NAME', 'MODEL', 'LEVEL', 'READY'])
    expect(row.trimEnd().split(/ {2,}/)).toEqual(['one', 'm-1', '7'])
    expect(await kubectl(['get', 'all'])).toContain('gadget.demo.example.com/one')

    await kubectl(['delete', 'crd', 'gadgets.demo.example.com'])
    // The one or the other, as its cache of what is served is old or new.
    expect(await refused(['get', 'gadgets'])).toMatch(/the server doesn't have a resource type|could not find the requested resource/)
  })

  it('is known by its certificate, and refused with another CA\'s', async () => {
    const server = ['--server', api.server.url, '--certificate-authority', join(folder, 'cert.pem')]
    const certificate = (cert: string, key: string): string[] =>
      ['--kubeconfig', '/dev/null', ...server, '--client-certificate', join(folder, cert), '--client-key', join(folder, key), 'get', 'namespaces']
    expect(await check(path, certificate('client.pem', 'client-key.pem'))).toContain('kube-system')
    const { code, stderr } = await run(path, certificate('cert.pem', 'key.pem'))
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/Forbidden|cannot/)
  })

  it('is told what is wrong', async () => {
    expect(await refused(['create', '-f', '-'], '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not OK"}}'))
      .toContain('The ConfigMap "Not OK" is invalid: metadata.name: Invalid value')
    expect(await refused(['delete', 'namespace', 'default']))
      .toContain('Error from server (Forbidden): namespaces "default" is forbidden: this namespace may not be deleted')
    const { code, stderr } = await run(path, ['--kubeconfig', kubeconfigPath(), '--token', 'another', 'get', 'pods'])
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/Unauthorized|logged in/)
  })
})

/** Status is its own resource: what a create carries of it is not kept. */
async function patchNodeStatus(url: string): Promise<void> {
  await check('curl', ['-sSf', '--cacert', join(folder, 'cert.pem'), '-X', 'PATCH', '-H', 'Content-Type: application/merge-patch+json',
    '-H', 'Authorization: Bearer a-token-of-this-test', '--data', JSON.stringify({ status: node.status }), `${url}/api/v1/nodes/edge-1/status`])
}

it('keeps the kubeconfig from others', async ({ skip }) => {
  skip(folder === undefined, 'no kubectl here')
  expect((await stat(kubeconfigPath())).mode & 0o777).toBe(0o600)
})
