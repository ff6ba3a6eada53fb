import { describe, expect, test } from 'vitest'
import type { JsonObject, KubeObject } from '../object.ts'
import { pods } from './pod.ts'
import { podTemplates } from './pod-template.ts'
import { pullPolicyOf } from './pod-defaults.ts'
import { created, createFaults, row, updated, updateFaults } from './testing/objects.ts'

const resource = pods()
const main = { name: 'main', image: 'registry.example/app:1' }
const faults = (spec: JsonObject): string[] => createFaults(resource, { metadata: { name: 'p' }, spec: { containers: [main], ...spec } })
const containerFaults = (container: JsonObject, spec: JsonObject = {}): string[] =>
  faults({ ...spec, containers: [{ ...main, ...container }] }).map(fault => fault.replace('spec.containers[0].', ''))

describe('a new Pod', () => {
  test('has the defaults of the real server, and what its admission adds', () => {
    const pod = created(resource, { metadata: { name: 'pa' }, spec: { automountServiceAccountToken: false, containers: [main], nodeName: 'rec-none' } })
    expect(pod['spec']).toEqual({
      containers: [{ ...main, resources: {}, terminationMessagePath: '/dev/termination-log', terminationMessagePolicy: 'File', imagePullPolicy: 'IfNotPresent' }],
      restartPolicy: 'Always', terminationGracePeriodSeconds: 30, dnsPolicy: 'ClusterFirst', serviceAccountName: 'default', serviceAccount: 'default',
      automountServiceAccountToken: false, nodeName: 'rec-none', securityContext: {}, schedulerName: 'default-scheduler',
      tolerations: [
        { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
        { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 }
      ],
      priority: 0, enableServiceLinks: true, preemptionPolicy: 'PreemptLowerPriority'
    })
    expect(pod['status']).toEqual({ phase: 'Pending', qosClass: 'BestEffort' })
    expect(pod.metadata).not.toHaveProperty('generation')
    expect(resource.validate(pod, undefined)).toEqual([])
  })

  test('has a status of its own, whatever it says', () => {
    expect(created(resource, { metadata: { name: 'p' }, spec: { containers: [main] }, status: { phase: 'Running', podIP: '1.2.3.4' } })['status'])
      .toEqual({ phase: 'Pending', qosClass: 'BestEffort' })
    expect(created(resource, { metadata: { name: 'p' }, spec: { containers: [main], schedulingGates: [{ name: 'a.example/b' }] } })['status'])
      .toMatchObject({ phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }] })
  })

  test('keeps tolerations and accounts that it names', () => {
    const { spec } = created(resource, { metadata: { name: 'p' }, spec: { containers: [main], tolerations: [{ operator: 'Exists' }],
      serviceAccount: 'robot', priorityClassName: 'system-node-critical' } }) as unknown as { spec: JsonObject }
    expect(spec).toMatchObject({ tolerations: [{ operator: 'Exists' }], serviceAccountName: 'robot', serviceAccount: 'robot', priority: 2_000_001_000 })
  })

  test.each([
    ['app', 'Always'], ['app:latest', 'Always'], ['app:1', 'IfNotPresent'], ['host:5000/app', 'Always'], ['host:5000/app:v1', 'IfNotPresent'],
    [`app@sha256:${'0'.repeat(64)}`, 'IfNotPresent'], [`app:latest@sha256:${'0'.repeat(64)}`, 'IfNotPresent'], ['', 'IfNotPresent']
  ])('an image %j is pulled %s', (image, policy) => {
    expect(pullPolicyOf(image)).toBe(policy)
  })

  test('defaults of ports, probes, environment and volumes', () => {
    const { spec } = created(resource, { metadata: { name: 'p' }, spec: {
      hostNetwork: true,
      containers: [{ ...main, ports: [{ containerPort: 80 }], env: [{ name: 'A', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
        livenessProbe: { httpGet: { port: 'http' } }, readinessProbe: { grpc: { port: 1 }, timeoutSeconds: 5 } }],
      volumes: [{ name: 'e' }, { name: 'c', configMap: { name: 'x' } }, { name: 's', secret: { secretName: 'x', defaultMode: 0 } },
        { name: 'p', projected: { sources: [{ serviceAccountToken: { path: 'token' } }, { downwardAPI: { items: [{ path: 'a', fieldRef: { fieldPath: 'b' } }] } }] } },
        { name: 'h', hostPath: { path: '/x' } }]
    } }) as unknown as { spec: JsonObject }
    expect(spec).toMatchObject({
      containers: [{
        ports: [{ containerPort: 80, hostPort: 80, protocol: 'TCP' }], env: [{ valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } }],
        livenessProbe: { httpGet: { path: '/', scheme: 'HTTP', port: 'http' }, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 },
        readinessProbe: { grpc: { port: 1, service: '' }, timeoutSeconds: 5 }
      }],
      volumes: [{ name: 'e', emptyDir: {} }, { configMap: { name: 'x', defaultMode: 420 } }, { secret: { secretName: 'x', defaultMode: 0 } },
        { projected: { defaultMode: 420, sources: [{ serviceAccountToken: { expirationSeconds: 3600 } },
          { downwardAPI: { items: [{ fieldRef: { apiVersion: 'v1' } }] } }] } },
        { hostPath: { path: '/x', type: '' } }]
    })
  })

  test('asks for what it is limited to', () => {
    const resources = (one: JsonObject, ...others: JsonObject[]): string => {
      const containers = [one, ...others].map((each, i) => ({ name: `c${i}`, image: 'x', resources: each }))
      return (created(resource, { metadata: { name: 'p' }, spec: { containers } })['status'] as { qosClass: string }).qosClass
    }
    expect(resources({})).toBe('BestEffort')
    expect(resources({ requests: { 'example.com/gpu': '1' } })).toBe('BestEffort')
    expect(resources({ limits: { cpu: '0', memory: '0' } })).toBe('BestEffort')
    expect(resources({ limits: { cpu: '1', memory: '1Gi' } })).toBe('Guaranteed')
    expect(resources({ limits: { cpu: '0.5', memory: '1Gi' }, requests: { cpu: '500m', memory: '1024Mi' } })).toBe('Guaranteed')
    expect(resources({ limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '500m' } })).toBe('Burstable')
    expect(resources({ limits: { cpu: '1' } })).toBe('Burstable')
    expect(resources({ limits: { cpu: '1', memory: '1Gi' } }, {})).toBe('Burstable')
    expect(resources({ requests: { cpu: '1' } })).toBe('Burstable')
  })
})

describe('what is refused of a Pod', () => {
  test('without containers', () => {
    expect(faults({ containers: [] })).toEqual(['spec.containers FieldValueRequired'])
    expect(createFaults(resource, { metadata: { name: 'p' } })).toEqual(['spec.containers FieldValueRequired'])
  })

  test('with much that is wrong, all of it', () => {
    const pod = created(resource, { metadata: { name: 'p' }, spec: { restartPolicy: 'Sometimes', containers: [
      { name: 'A', image: '' },
      { name: 'b', image: 'x', ports: [{ containerPort: 70_000 }], env: [{ name: '' }], volumeMounts: [{ name: 'nope', mountPath: '/x' }] },
      { name: 'b', image: 'y' }
    ] } })
    expect(resource.validate(pod, undefined)).toEqual([
      { reason: 'FieldValueInvalid', field: 'spec.containers[0].name', message: 'Invalid value: "A": a lowercase RFC 1123 label must consist of lower case '
        + 'alphanumeric characters or \'-\', and must start and end with an alphanumeric character (e.g. \'my-name\',  or \'123-abc\', regex used for '
        + 'validation is \'[a-z0-9]([-a-z0-9]*[a-z0-9])?\')' },
      { reason: 'FieldValueRequired', message: 'Required value', field: 'spec.containers[0].image' },
      { reason: 'FieldValueInvalid', message: 'Invalid value: 70000: must be between 1 and 65535, inclusive', field: 'spec.containers[1].ports[0].containerPort' },
      { reason: 'FieldValueRequired', message: 'Required value', field: 'spec.containers[1].env[0].name' },
      { reason: 'FieldValueNotFound', message: 'Not found: "nope"', field: 'spec.containers[1].volumeMounts[0].name' },
      { reason: 'FieldValueDuplicate', message: 'Duplicate value: "b"', field: 'spec.containers[2].name' },
      { reason: 'FieldValueNotSupported', message: 'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"', field: 'spec.restartPolicy' }
    ])
  })

  test('a quantity that is none', () => {
    expect(() => resource.decode({ spec: { containers: [{ name: 'a', image: 'x', resources: { limits: { cpu: 'lots' } } }] } }, 'Warn'))
      .toThrow('Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression \'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$\'')
  })

  test.each<[string, JsonObject, string[]]>([
    ['image with spaces', { image: ' x' }, ['image FieldValueInvalid']],
    ['pull policy', { imagePullPolicy: 'Rarely' }, ['imagePullPolicy FieldValueNotSupported']],
    ['port names', { ports: [{ name: 'not ok', containerPort: 1 }] }, ['ports[0].name FieldValueInvalid']],
    ['port without a number', { ports: [{ name: 'a' }] }, ['ports[0].containerPort FieldValueRequired']],
    ['port names twice', { ports: [{ name: 'a', containerPort: 1 }, { name: 'a', containerPort: 2 }] }, ['ports[1].name FieldValueDuplicate']],
    ['host ports twice', { ports: [{ containerPort: 1, hostPort: 9 }, { containerPort: 2, hostPort: 9 }] }, ['ports[1].hostPort FieldValueDuplicate']],
    ['environment without a source', { env: [{ name: 'A', valueFrom: {} }] }, ['env[0].valueFrom FieldValueInvalid']],
    ['environment with two', { env: [{ name: 'A', valueFrom: { fieldRef: { fieldPath: 'x' }, secretKeyRef: { name: 'a', key: 'b' } } }] }, ['env[0].valueFrom FieldValueInvalid']],
    ['environment with a value and a source', { env: [{ name: 'A', value: 'x', valueFrom: { fieldRef: { fieldPath: 'x' } } }] }, ['env[0].valueFrom FieldValueInvalid']],
    ['environment from a bad key', { env: [{ name: 'A', valueFrom: { configMapKeyRef: { key: 'a/b' } } }] },
      ['env[0].valueFrom.configMapKeyRef.name FieldValueRequired', 'env[0].valueFrom.configMapKeyRef.key FieldValueInvalid']],
    ['environment from nothing', { envFrom: [{ prefix: 'A' }] }, ['envFrom FieldValueInvalid']],
    ['requests above limits', { resources: { limits: { cpu: '1' }, requests: { cpu: '2' } } }, ['resources.requests FieldValueInvalid']],
    ['requests below nothing', { resources: { requests: { cpu: '-1' } } }, ['resources.requests[cpu] FieldValueInvalid']],
    ['requests of what is not known', { resources: { requests: { gpu: '1' } } }, ['resources.requests[gpu] FieldValueInvalid']],
    ['requests of what is extended', { resources: { limits: { 'example.com/gpu': '1' } } }, []],
    ['requests of what is extended without a limit', { resources: { requests: { 'example.com/gpu': '1' } } }, ['resources.limits FieldValueRequired']],
    ['requests of what is extended below the limit', { resources: { limits: { 'example.com/gpu': '2' }, requests: { 'example.com/gpu': '1' } } },
      ['resources.requests FieldValueInvalid']],
    ['probe without a handler', { livenessProbe: {} }, ['livenessProbe FieldValueRequired']],
    ['probe with two', { livenessProbe: { exec: { command: ['x'] }, tcpSocket: { port: 1 } } }, ['livenessProbe.tcpSocket FieldValueForbidden']],
    ['probe that succeeds late', { livenessProbe: { exec: { command: ['x'] }, successThreshold: 2 } }, ['livenessProbe.successThreshold FieldValueInvalid']],
    ['probe of a port that is none', { readinessProbe: { tcpSocket: { port: 0 } } }, ['readinessProbe.tcpSocket.port FieldValueInvalid']],
    ['hook without a handler', { lifecycle: { preStop: {} } }, ['lifecycle.preStop FieldValueRequired']],
    ['user', { securityContext: { runAsUser: -1 } }, ['securityContext.runAsUser FieldValueInvalid']],
    ['root as user', { securityContext: { runAsUser: 0 } }, []],
    ['mount without a path', { volumeMounts: [{ name: 'v' }] }, ['volumeMounts[0].mountPath FieldValueRequired']],
    ['mounts of one path', { volumeMounts: [{ name: 'v', mountPath: '/a' }, { name: 'v', mountPath: '/a' }] }, ['volumeMounts[1].mountPath FieldValueInvalid']],
    ['mount of what is above', { volumeMounts: [{ name: 'v', mountPath: '/a', subPath: '../x' }] }, ['volumeMounts[0].subPath FieldValueInvalid']]
  ])('container: %s', (_name, container, expected) => {
    expect(containerFaults(container, { volumes: [{ name: 'v', emptyDir: {} }] })).toEqual(expected)
  })

  test.each<[string, JsonObject, string[]]>([
    ['two sources', { emptyDir: {}, configMap: { name: 'x' } }, ['.configMap FieldValueForbidden']],
    ['two sources in another order', { hostPath: { path: '/x' }, emptyDir: {} }, ['.hostPath FieldValueForbidden']],
    ['configMap without a name', { configMap: {} }, ['.configMap.name FieldValueRequired']],
    ['secret without a name', { secret: { items: [{ key: 'a', path: '../b' }] } }, ['.secret.secretName FieldValueRequired', '.secret.items[0].path FieldValueInvalid']],
    ['mode', { configMap: { name: 'x', defaultMode: 512 } }, ['.configMap.defaultMode FieldValueInvalid']],
    ['hostPath', { hostPath: {} }, ['.hostPath.path FieldValueRequired']],
    ['hostPath above', { hostPath: { path: '/a/../b' } }, ['.hostPath.path FieldValueInvalid']],
    ['claim', { persistentVolumeClaim: {} }, ['.persistentVolumeClaim.claimName FieldValueRequired']],
    ['nfs', { nfs: { server: 'x', path: 'y' } }, ['.nfs.path FieldValueInvalid']],
    ['token that ends soon', { projected: { sources: [{ serviceAccountToken: { path: 't', expirationSeconds: 60 } }] } },
      ['.projected.sources[0].serviceAccountToken.expirationSeconds FieldValueInvalid']],
    ['source of nothing', { projected: { sources: [{}] } }, ['.projected.sources[0] FieldValueRequired']],
    ['field without a path', { downwardAPI: { items: [{ path: 'a', fieldRef: {} }] } }, ['.downwardAPI[0].fieldRef.fieldPath FieldValueRequired']]
  ])('volume: %s', (_name, volume, expected) => {
    expect(faults({ volumes: [{ name: 'v', ...volume }] }).map(fault => fault.replace('spec.volumes[0]', ''))).toEqual(expected)
  })

  test.each<[string, JsonObject, string[]]>([
    ['volumes of one name', { volumes: [{ name: 'v' }, { name: 'v' }, { name: 'V' }, {}] },
      ['spec.volumes[1].name FieldValueDuplicate', 'spec.volumes[2].name FieldValueInvalid', 'spec.volumes[3].name FieldValueRequired']],
    ['DNS policy', { dnsPolicy: 'Mine' }, ['spec.dnsPolicy FieldValueNotSupported']],
    ['DNS of one\'s own without a server', { dnsPolicy: 'None' }, ['spec.dnsConfig.nameservers FieldValueRequired']],
    ['node selector', { nodeSelector: { 'a b': 'x' } }, ['spec.nodeSelector FieldValueInvalid']],
    ['deadline', { activeDeadlineSeconds: 0 }, ['spec.activeDeadlineSeconds FieldValueInvalid']],
    ['names', { hostname: 'a.b', subdomain: 'A', nodeName: 'A', serviceAccountName: 'A' },
      ['serviceAccountName', 'nodeName', 'hostname', 'subdomain'].map(name => `spec.${name} FieldValueInvalid`)],
    ['tolerations', { tolerations: [{ key: 'a', operator: 'Never' }, { key: 'a', effect: 'NoSchedule', tolerationSeconds: 1 },
      { value: 'x' }, { key: 'a', operator: 'Exists', value: 'x' }] },
    ['spec.tolerations[0].operator FieldValueNotSupported', 'spec.tolerations[1].effect FieldValueInvalid',
      'spec.tolerations[2].operator FieldValueInvalid', 'spec.tolerations[3].operator FieldValueInvalid']],
    ['host aliases', { hostAliases: [{ ip: 'here', hostnames: ['A'] }] }, ['spec.hostAliases[0].ip FieldValueInvalid', 'spec.hostAliases[0].hostnames[0] FieldValueInvalid']],
    ['pull secrets', { imagePullSecrets: [{}] }, ['spec.imagePullSecrets[0].name FieldValueRequired']],
    ['spread', { topologySpreadConstraints: [{ whenUnsatisfiable: 'Cry' }] }, ['maxSkew FieldValueInvalid', 'topologyKey FieldValueRequired',
      'whenUnsatisfiable FieldValueNotSupported'].map(fault => `spec.topologySpreadConstraints[0].${fault}`)],
    ['init containers', { initContainers: [{ ...main, livenessProbe: { exec: { command: ['x'] } } }, { name: 'side', image: 'x', restartPolicy: 'Always',
      livenessProbe: { exec: { command: ['x'] } } }] },
    ['spec.initContainers[0].name FieldValueDuplicate', 'spec.initContainers[0].livenessProbe FieldValueForbidden']],
    ['ephemeral containers', { ephemeralContainers: [{ name: 'debug', image: 'x', ports: [{ containerPort: 1 }] }] },
      ['spec.ephemeralContainers[0].ports FieldValueForbidden']],
    ['other ports on the node\'s network', { hostNetwork: true, containers: [{ ...main, ports: [{ containerPort: 80, hostPort: 81 }] }] },
      ['spec.containers[0].ports[0].containerPort FieldValueInvalid']]
  ])('%s', (_name, spec, expected) => {
    expect(faults(spec)).toEqual(expected)
  })
})

describe('a changed Pod', () => {
  const pod = created(resource, { metadata: { name: 'p' }, spec: { containers: [main], activeDeadlineSeconds: 60, nodeName: 'edge-1' } })
  const spec = pod['spec'] as JsonObject

  test('may change images, deadlines downwards and tolerations by addition', () => {
    expect(updateFaults(resource, pod, { spec: { ...spec, containers: [{ ...main, image: 'other:2' }], activeDeadlineSeconds: 30,
      tolerations: [...spec['tolerations'] as [], { key: 'a', operator: 'Exists' }] } })).toEqual([])
    expect(updateFaults(resource, pod, { spec: { ...spec, activeDeadlineSeconds: 61 } })).toEqual(['spec.activeDeadlineSeconds FieldValueInvalid'])
    expect(updateFaults(resource, pod, { spec: { ...spec, activeDeadlineSeconds: null } })).toEqual(['spec.activeDeadlineSeconds FieldValueInvalid'])
    expect(updateFaults(resource, pod, { spec: { ...spec, tolerations: [{ operator: 'Exists' }] } })).toEqual(['spec.tolerations FieldValueForbidden'])
  })

  test('may not change anything else', () => {
    expect(updateFaults(resource, pod, { spec: { ...spec, nodeName: 'edge-2' } })).toEqual(['spec FieldValueForbidden'])
    expect(updateFaults(resource, pod, { spec: { ...spec, containers: [{ ...main, args: ['x'] }] } })).toEqual(['spec FieldValueForbidden'])
    expect(updateFaults(resource, pod, { spec: { ...spec, containers: [main, { name: 'b', image: 'x' }] } })).toEqual(['spec.containers FieldValueForbidden'])
    expect(updateFaults(resource, pod, { spec: { ...spec, schedulingGates: [{ name: 'a.example/b' }] } })).toEqual(['spec.schedulingGates FieldValueForbidden'])
  })

  test('keeps what the server added when a client leaves it out', () => {
    const { priority: _priority, tolerations: _tolerations, preemptionPolicy: _preemptionPolicy, ...left } = spec
    expect(updateFaults(resource, pod, { spec: left })).toEqual([])
    expect(updated(resource, pod, { spec: left })['spec']).toEqual(spec)
  })

  test('changes its status through /status only', () => {
    const status = { phase: 'Running', podIP: '10.0.0.3', podIPs: [{ ip: '10.0.0.3' }] }
    expect(updated(resource, pod, { spec, status })['status']).toEqual(pod['status'])
    const running = updated(resource, pod, { spec: { containers: [] }, status, metadata: { labels: { a: 'b' }, ownerReferences: [{ uid: 'x' }] } }, 'status')
    expect(running).toMatchObject({ spec, status: { ...status, qosClass: 'BestEffort' }, metadata: { labels: { a: 'b' } } })
    expect(running.metadata).not.toHaveProperty('ownerReferences')
    expect(resource.validate(running, pod)).toEqual([])
    expect(resource.selectableFields(running)).toEqual({
      'spec.nodeName': 'edge-1', 'spec.restartPolicy': 'Always', 'spec.schedulerName': 'default-scheduler', 'spec.serviceAccountName': 'default',
      'spec.hostNetwork': 'false', 'status.phase': 'Running', 'status.podIP': '10.0.0.3', 'status.nominatedNodeName': ''
    })
  })

  test('is deleted in its own time where a node may have begun it', () => {
    const grace = (object: KubeObject, seconds?: number): number => resource.deletionGraceSeconds!(object, seconds)
    expect([grace(pod), grace(pod, 5), grace(pod, 0), grace(pod, -1)]).toEqual([30, 5, 0, 1])
    expect(grace({ ...pod, status: { phase: 'Failed' } })).toBe(0)
    expect(grace(created(resource, { metadata: { name: 'p' }, spec: { containers: [main] } }))).toBe(0)
  })
})

describe('a Pod\'s row', () => {
  const show = (status: JsonObject, more: { spec?: JsonObject, metadata?: JsonObject } = {}): string => {
    const pod = created(resource, { metadata: { name: 'p' }, spec: { containers: [main, { ...main, name: 'other' }], ...more.spec } })
    pod['status'] = status
    Object.assign(pod.metadata, more.metadata)
    const { Ready, Status, Restarts } = row(resource, pod)
    return `${Ready as string} ${Status as string} ${Restarts as string}`
  }
  const running = { ready: true, restartCount: 0, state: { running: {} } }
  const ended = (terminated: JsonObject) => ({ ready: false, restartCount: 0, state: { terminated } })
  const waiting = (reason: string) => ({ ready: false, restartCount: 0, state: { waiting: { reason } } })

  test.each<[string, string, JsonObject]>([
    ['has not begun', '0/2 Pending 0', { phase: 'Pending' }],
    ['says why itself', '0/2 Evicted 0', { phase: 'Failed', reason: 'Evicted' }],
    ['is gated', '0/2 SchedulingGated 0', { phase: 'Pending', conditions: [{ type: 'PodScheduled', reason: 'SchedulingGated' }] }],
    ['runs', '2/2 Running 0', { phase: 'Running', containerStatuses: [running, running] }],
    ['waits', '1/2 CrashLoopBackOff 0', { phase: 'Running', containerStatuses: [waiting('CrashLoopBackOff'), running] }],
    ['waits twice, of which the first is told', '0/2 CrashLoopBackOff 0', { phase: 'Running', containerStatuses: [waiting('CrashLoopBackOff'), waiting('ErrImagePull')] }],
    ['restarts', '2/2 Running 5 (65s ago)', { phase: 'Running', containerStatuses: [
      { ...running, restartCount: 2, lastState: { terminated: { finishedAt: '2026-11-21T11:00:00Z' } } },
      { ...running, restartCount: 3, lastState: { terminated: { finishedAt: '2026-11-21T11:03:55Z' } } }] }],
    ['restarted at some time', '2/2 Running 1', { phase: 'Running', containerStatuses: [{ ...running, restartCount: 1 }, running] }],
    ['failed with a code', '0/2 ExitCode:3 0', { phase: 'Failed', containerStatuses: [ended({ exitCode: 3 })] }],
    ['failed by a signal', '0/2 Signal:9 0', { phase: 'Failed', containerStatuses: [ended({ exitCode: 137, signal: 9 })] }],
    ['failed for a reason', '0/2 OOMKilled 0', { phase: 'Failed', containerStatuses: [ended({ reason: 'OOMKilled' })] }],
    ['has half ended', '1/2 NotReady 0', { phase: 'Running', containerStatuses: [ended({ reason: 'Completed' }), running] }],
    ['has half ended and is ready', '1/2 Running 0', { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }], containerStatuses: [ended({ reason: 'Completed' }), running] }],
    ['has ended', '0/2 Completed 0', { phase: 'Succeeded', containerStatuses: [ended({ reason: 'Completed' }), ended({ reason: 'Completed' })] }]
  ])('that %s', (_name, expected, status) => {
    expect(show(status)).toBe(expected)
  })

  test.each<[string, string, JsonObject]>([
    ['waits for what runs first', '0/2 Init:0/2 0', { initContainerStatuses: [{ name: 'i', state: { running: {} } }] }],
    ['waits for the second of it', '0/2 Init:1/2 0', { initContainerStatuses: [{ name: 'i', state: { terminated: { exitCode: 0 } } }, { name: 'j', state: { waiting: { reason: 'PodInitializing' } } }] }],
    ['cannot begin', '0/2 Init:ErrImagePull 0', { initContainerStatuses: [{ name: 'i', state: { waiting: { reason: 'ErrImagePull' } } }] }],
    ['failed at it', '0/2 Init:ExitCode:1 4 (60s ago)', { initContainerStatuses: [{ name: 'i', restartCount: 4, lastState: { terminated: { finishedAt: '2026-11-21T11:04:00Z' } }, state: { terminated: { exitCode: 1 } } }] }],
    ['failed at it by a signal', '0/2 Init:Signal:9 0', { initContainerStatuses: [{ name: 'i', state: { terminated: { exitCode: 137, signal: 9 } } }] }],
    ['failed at it for a reason', '0/2 Init:Error 0', { initContainerStatuses: [{ name: 'i', state: { terminated: { exitCode: 1, reason: 'Error' } } }] }],
    ['is past it', '1/2 Pending 0', { initContainerStatuses: [{ name: 'i', restartCount: 4, state: { terminated: { exitCode: 0 } } }], containerStatuses: [running] }]
  ])('that %s', (_name, expected, status) => {
    expect(show({ phase: 'Pending', ...status }, { spec: { initContainers: [{ ...main, name: 'i' }, { ...main, name: 'j' }] } })).toBe(expected)
  })

  test('counts what runs beside it', () => {
    const initContainers = [{ ...main, name: 'side', restartPolicy: 'Always' }]
    expect(show({ phase: 'Running', initContainerStatuses: [{ name: 'side', started: true, ready: true, restartCount: 2, state: { running: {} } }],
      containerStatuses: [running, running] }, { spec: { initContainers } })).toBe('3/3 Running 2')
  })

  test('tells of its deletion', () => {
    const deleted = { metadata: { deletionTimestamp: '2026-11-21T11:04:00Z' } }
    expect(show({ phase: 'Running', containerStatuses: [running, running] }, deleted)).toBe('2/2 Terminating 0')
    expect(show({ phase: 'Running', reason: 'NodeLost' }, deleted)).toBe('0/2 Unknown 0')
    expect(show({ phase: 'Succeeded' }, deleted)).toBe('0/2 Succeeded 0')
  })

  test('has more in wide output', () => {
    const pod = created(resource, { metadata: { name: 'p' }, spec: { containers: [main], readinessGates: [{ conditionType: 'a.example/b' }, { conditionType: 'c' }], nodeName: 'edge-1' } })
    expect(row(resource, pod)).toMatchObject({ 'Name': 'p', 'Age': '5m', 'IP': '<none>', 'Node': 'edge-1', 'Nominated Node': '<none>', 'Readiness Gates': '0/2' })
    pod['status'] = { podIPs: [{ ip: '10.0.0.3' }], nominatedNodeName: 'x', conditions: [{ type: 'c', status: 'True' }] }
    expect(row(resource, pod)).toMatchObject({ 'IP': '10.0.0.3', 'Nominated Node': 'x', 'Readiness Gates': '1/2' })
    expect(resource.columns.map(({ priority }) => priority)).toEqual([0, 0, 0, 0, 0, 1, 1, 1, 1])
  })
})

describe('a PodTemplate', () => {
  const templates = podTemplates()
  const template = { metadata: { labels: { app: 'p' } }, spec: { containers: [main], volumes: [{ name: 'v', emptyDir: {} }] } }
  const object = created(templates, { metadata: { name: 'p' }, template })

  test('has defaults, but nothing of admission, and a generation', () => {
    expect(object.metadata.generation).toBe(1)
    expect(object['template']).toEqual({
      metadata: { creationTimestamp: null, labels: { app: 'p' } },
      spec: {
        containers: [{ ...main, imagePullPolicy: 'IfNotPresent', resources: {}, terminationMessagePath: '/dev/termination-log', terminationMessagePolicy: 'File' }],
        volumes: [{ name: 'v', emptyDir: {} }], restartPolicy: 'Always', terminationGracePeriodSeconds: 30, dnsPolicy: 'ClusterFirst', securityContext: {},
        schedulerName: 'default-scheduler'
      }
    })
  })

  test('counts changes of the template', () => {
    expect(updated(templates, object, { template, metadata: { labels: { a: 'b' } } }).metadata.generation).toBe(1)
    expect(updated(templates, object, { template: { ...template, metadata: {} } }).metadata.generation).toBe(2)
  })

  test('is checked as a Pod is', () => {
    const spec = { ...template.spec, volumes: [{ name: 'v', configMap: { name: 'cfg' }, emptyDir: {} }] }
    expect(templates.validate(updated(templates, object, { template: { ...template, spec } }), object)).toEqual([
      { reason: 'FieldValueForbidden', message: 'Forbidden: may not specify more than 1 volume type', field: 'template.spec.volumes[0].configMap' }])
    expect(createFaults(templates, { metadata: { name: 'p' } })).toEqual(['template.spec.containers FieldValueRequired'])
    expect(createFaults(templates, { metadata: { name: 'p' }, template: { ...template, metadata: { labels: { a: 'not ok' } } } })).toEqual(['template.labels FieldValueInvalid'])
  })

  test('row', () => {
    expect(row(templates, object)).toEqual({ 'Name': 'p', 'Containers': 'main', 'Images': 'registry.example/app:1', 'Pod Labels': 'app=p' })
  })
})
